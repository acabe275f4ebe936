"""Where the key of a sealed file comes from on the command line."""

import os
import stat
import sys
from pathlib import Path

from strongroom.cli.outcome import one_line
from strongroom.errors import ConfigurationError

KEY_SIZE = 16


def sealing_key(key_file: Path | None) -> bytes:
    """The 16-byte key that the options name.

    Args:
        key_file: `--key-file`: a file of exactly 16 raw bytes, as Gramine's `wrap_key`.

    Returns:
        The key.

    Raises:
        ConfigurationError: If no key is named, the file can't be read, or it is not a key.
    """
    if key_file is None:
        raise ConfigurationError(
            "no key: say which one with --key-file FILE",
            code="key.missing",
            hint="a new key: (umask 077; head -c 16 /dev/urandom > wrap_key)",
        )
    return _read_key_file(key_file)


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(KEY_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(f"can't read the key file {path}: {error.strerror}", code="key.unreadable") from None
    if len(key) != KEY_SIZE:
        found = "more" if len(key) > KEY_SIZE else len(key)
        raise ConfigurationError(
            f"the key file {path} must have exactly {KEY_SIZE} bytes, it has {found}",
            code="key.length",
            hint="raw bytes without a newline; turn 32 hex digits into a key with: xxd -r -p HEX > wrap_key",
        )
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        print(f"warning: others can read the key file; chmod 600 {one_line(str(path))}", file=sys.stderr)  # noqa: T201
    return key
