"""How a command ends: exit statuses, `error:` and `hint:` lines. stdout is data, stderr is talk."""

import sys
from types import TracebackType
from typing import NoReturn, TextIO

from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    MalformedFile,
    PolicyRejected,
    SealedDataError,
    StrongroomError,
    UnavailableError,
    VerificationError,
)

OK = 0
BUG = 1
USAGE = 2
NOT_GENUINE = 3
REFUSED = 4
UNAVAILABLE = 5

# First match wins.
EXIT_STATUS: tuple[tuple[type[StrongroomError], int], ...] = (
    (MalformedFile, NOT_GENUINE),
    (ConfigurationError, USAGE),
    (FormatError, NOT_GENUINE),
    (VerificationError, NOT_GENUINE),
    (SealedDataError, NOT_GENUINE),
    (PolicyRejected, REFUSED),
    (KeyReleaseError, REFUSED),
    (UnavailableError, UNAVAILABLE),
)


def exit_status(error: StrongroomError) -> int:
    """Exit status of an error: 2 usage, 3 malformed or not genuine, 4 refused by policy, 5 unavailable, 1 bug."""
    return next((status for kind, status in EXIT_STATUS if isinstance(error, kind)), BUG)


def print_error(error: StrongroomError, stream: TextIO | None = None) -> None:
    """Write `error:` with the code in brackets, one line a finding, then `hint:`."""
    out = stream or sys.stderr
    if isinstance(error, PolicyRejected):
        print(f"error: refused by policy [{error.code}]", file=out)
        for finding in error.findings:
            print(f"  {finding.code}: {one_line(finding.detail)}", file=out)
    else:
        print(f"error: {one_line(error.message)} [{error.code}]", file=out)
    if error.hint:
        print(f"hint: {one_line(error.hint)}", file=out)


def one_line(text: str) -> str:
    """The text on one line with control characters escaped, so that a hostile name can't write to the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def fail(error: StrongroomError) -> NoReturn:
    """Print the error and end the process with its status.

    Raises:
        SystemExit: Always.
    """
    print_error(error)
    raise SystemExit(exit_status(error))


def end_with_status(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A `sys.excepthook` that ends a workload as a command ends: one line and a status for our errors.

    Raises:
        SystemExit: With the status of the table, for a StrongroomError; Python exits with it.
    """
    if isinstance(error, StrongroomError):
        fail(error)
    sys.__excepthook__(kind, error, trace)
