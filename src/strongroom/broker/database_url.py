"""Where the broker's PostgreSQL database is: a URL as libpq writes it, without a secret in it.

Source: PostgreSQL documentation, "libpq: Connection Strings" and "SSL Support".
"""

import ipaddress
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import parse_qsl, urlsplit

from strongroom.errors import ConfigurationError

MAX_URL_CHARS: Final = 2048
DEFAULT_PORT: Final = 5432
DEFAULT_CONNECTIONS: Final = 10
VERIFIED: Final = "verify-full"
SSL_MODES: Final = ("disable", "prefer", "require", "verify-ca", VERIFIED)
SYSTEM_ROOTS: Final = "system"
PRIVATE_FILES: Final = ("passfile", "sslkey")
FILES: Final = ("sslrootcert", "sslcert", *PRIVATE_FILES)
OPTIONS: Final = frozenset({"host", "sslmode", *FILES})
PASSWORD_VARIABLE: Final = "PGPASSWORD"  # noqa: S105 -- its name
EXAMPLE: Final = "postgresql://broker@db.example.com/strongroom?sslrootcert=/etc/strongroom/db-ca.pem&passfile=/etc/strongroom/pgpass"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database, and how its server is recognised.

    Args:
        host: Name or address of the server, or the folder of its socket.
        port: TCP port, also part of the socket's name.
        user: Role.
        database: Name of the database.
        ssl_mode: libpq's ``sslmode``; ``verify-full`` unless the server is on this machine.
        files: ``sslrootcert``, ``sslcert``, ``sslkey``, ``passfile``: absolute paths.
    """

    host: str
    port: int
    user: str
    database: str
    ssl_mode: str
    files: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.database} at {self.host}:{self.port}"


def parse_database_url(text: str) -> DatabaseAddress:
    """Read ``postgresql://USER@HOST[:PORT]/DATABASE[?OPTION=VALUE&...]``.

    Args:
        text: The URL. Options are `OPTIONS`; ``host`` names the folder of a Unix socket in place of a host.

    Returns:
        The address.

    Raises:
        ConfigurationError: Not such a URL, a password is in it, or the server would not be authenticated
            (``broker.database_url``). The URL is not part of the message.
    """
    if len(text) > MAX_URL_CHARS or not text.isprintable() or not text.isascii():
        _refuse("is not a URL")
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_PORT
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        _refuse("is not a URL")
    options = dict(pairs)
    if parts.scheme != "postgresql" or parts.fragment:
        _refuse("is not a PostgreSQL URL")
    if parts.password is not None or "password" in options:
        _refuse("must not hold a password", hint="passfile=/path of a password file, or sslcert= and sslkey=")
    if not options.keys() <= OPTIONS or len(options) != len(pairs):
        _refuse(f"has an option twice, or one that is not known; known are {', '.join(sorted(OPTIONS))}")
    user, database = parts.username or "", parts.path[1:]
    if not _NAME.fullmatch(user) or not _NAME.fullmatch(database):
        _refuse("names no user or no database")
    host = _host(parts.hostname or "", options.pop("host", ""))
    mode = _ssl_mode(host, options)
    for name, path in options.items():
        if not path.startswith("/") and (name, path) != ("sslrootcert", SYSTEM_ROOTS):
            _refuse(f"{name} is not an absolute path")
    return DatabaseAddress(host, port, user, database, mode, options)


def _host(name: str, folder: str) -> str:
    one_of_both = bool(name) != bool(folder)
    if not one_of_both or (folder and not folder.startswith("/")) or "%" in name or "," in name + folder:
        _refuse("needs one host, or host=/folder of a Unix socket")  # libpq would try each of a list
    return name or folder


def _ssl_mode(host: str, options: dict[str, str]) -> str:
    here = on_this_machine(host)
    mode = options.pop("sslmode", "prefer" if here else VERIFIED)
    if mode not in SSL_MODES:
        _refuse(f"sslmode is not one of {', '.join(SSL_MODES)}")
    if not here and mode != VERIFIED:
        _refuse(f"sslmode must be {VERIFIED}: the server is on another machine")
    if mode == VERIFIED and "sslrootcert" not in options:
        _refuse(f"{VERIFIED} needs sslrootcert", hint="the CA certificate of the server, or `system` for public ones")
    if ("sslcert" in options) != ("sslkey" in options):
        _refuse("sslcert and sslkey belong together")
    return mode


def on_this_machine(host: str) -> bool:
    """Whether packets to a host never leave this machine: a socket's folder, localhost or a loopback address."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_credentials(address: DatabaseAddress) -> None:
    """Refuse credentials that others can read, before libpq passes over them without a word.

    Raises:
        ConfigurationError: A file is absent or others may read it, or a password is in the environment.
    """
    if PASSWORD_VARIABLE in os.environ:
        raise ConfigurationError(
            f"{PASSWORD_VARIABLE} is set: other processes can read it",
            code="broker.database_url",
            hint="a password file: passfile=/path in database_url",
        )
    for name, path in address.files.items():
        if path == SYSTEM_ROOTS:
            continue
        try:
            mode = Path(path).stat().st_mode
        except OSError as error:
            _refuse(f"{name}: cannot read {path}: {error.strerror}")
        if not stat.S_ISREG(mode):
            _refuse(f"{name}: {path} is not a file")
        if name in PRIVATE_FILES and mode & _OTHERS:
            _refuse(f"{name}: others may read {path}", hint=f"chmod 600 {path}")


def _refuse(reason: str, *, hint: str = EXAMPLE) -> NoReturn:
    raise ConfigurationError(f"database_url: {reason}", code="broker.database_url", hint=hint)
