"""The one exception tree of Strongroom.

    StrongroomError
    +-- FormatError            bytes or text do not follow their format            (malformed)
    +-- VerificationError      well formed, but not genuine
    +-- PolicyRejected         genuine, but not acceptable; carries every finding
    +-- KeyReleaseError        the broker refused a key
    +-- SealedDataError        a sealed file does not open
    |   +-- WrongKey           the key does not fit (or node 0 was altered)
    |   +-- WrongPath          sealed for another path
    |   +-- Truncated          the file is cut
    |   +-- Tampered           a bit was flipped
    +-- UnavailableError       somebody else does not answer; trying again may help
    +-- ConfigurationError     settings, workload definition or arguments are wrong
        +-- MalformedFile      a file that people write is not TOML at all             (malformed)
        +-- MissingFile        no such file or folder; a FileNotFoundError too
        +-- WouldOverwrite     refused to replace something silently

Every exception has a stable dotted ``code`` ("quote.signature"), one line of text, and, where the user can do
something about it, a ``hint``. Exit statuses and HTTP statuses are tables in `cli` and `broker`, not attributes here.
Never put a secret into the text of an exception: it ends in logs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class StrongroomError(Exception):
    """Base of everything Strongroom raises on purpose.

    Args:
        message: One line for the person who runs the command.
        code: Stable dotted code; the class has a default.
        hint: What to do next, one line, or None.
    """

    default_code: ClassVar[str] = "strongroom.error"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint


class FormatError(StrongroomError):
    """Bytes or text do not follow their format: nothing in them may be used."""

    default_code = "format.malformed"


class VerificationError(StrongroomError):
    """Well formed, but not genuine: a signature, chain, revocation, expiry or binding check failed."""

    default_code = "verification.failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why genuine evidence is not acceptable.

    Args:
        code: Stable dotted code, e.g. ``measurement.mr_enclave``. Safe to show to a stranger.
        detail: What was found and what was expected. For the owner and the audit log only.
    """

    code: str
    detail: str


class PolicyRejected(StrongroomError):
    """Genuine evidence that a policy does not accept.

    Args:
        findings: Every finding, at least one.
    """

    default_code = "policy.rejected"

    def __init__(self, findings: Iterable[Finding], *, code: str | None = None, hint: str | None = None) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(f"{f.code}: {f.detail}" for f in self.findings), code=code, hint=hint)


class KeyReleaseError(StrongroomError):
    """The broker refused to release a key."""

    default_code = "release.refused"


class SealedDataError(StrongroomError):
    """A sealed file does not open."""

    default_code = "sealed.unreadable"


class WrongKey(SealedDataError):
    """The key does not fit the file (or its first node was altered: AES-GCM can't tell these apart)."""

    default_code = "sealed.wrong_key"


class WrongPath(SealedDataError):
    """The file was sealed for another path."""

    default_code = "sealed.wrong_path"


class Truncated(SealedDataError):
    """The file is shorter than its authenticated size says."""

    default_code = "sealed.truncated"


class Tampered(SealedDataError):
    """A node of the file fails its authentication: a bit was flipped or a node swapped."""

    default_code = "sealed.tampered"


class UnavailableError(StrongroomError):
    """Somebody else does not answer; trying again may help."""

    default_code = "unavailable"


class ConfigurationError(StrongroomError):
    """Settings, a workload definition or arguments are wrong."""

    default_code = "configuration.invalid"


class MalformedFile(ConfigurationError):
    """A settings file, a workload definition or another file that people write is not TOML at all.

    TOML that says something wrong is a plain ConfigurationError.
    """

    default_code = "file.malformed"


class MissingFile(ConfigurationError, FileNotFoundError):
    """There is no such file or folder. Also a FileNotFoundError, so that a room can stand where files are expected."""

    default_code = "file.not_found"


class WouldOverwrite(ConfigurationError):
    """Refused to replace an existing file without being told to."""

    default_code = "output.exists"
