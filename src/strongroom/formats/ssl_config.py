r"""``ssl.cfg`` of TensorFlow Serving: an SSLConfig message in protobuf's text format.

Four fields: ``server_key``, ``server_cert``, ``custom_ca`` (strings holding PEM) and ``client_verify`` (true or
false). The reader takes the text format's ways of writing these four, each at most once, and nothing else.

Source: tensorflow/serving, config/ssl_config.proto; protocol buffers "Text Format Language Specification", sections
"String Literals" and "Fields".
"""

import re
from dataclasses import dataclass, field
from typing import Final

from strongroom.errors import FormatError

MAX_BYTES: Final = 256 * 1024
STRINGS: Final = ("server_key", "server_cert", "custom_ca")
FLAG: Final = "client_verify"

_CODE: Final = "ssl_config.malformed"
_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*(?:\n|\Z))*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERAL: Final = re.compile(r"'((?:[^'\\\n\0]|\\[^\n])*)'|\"((?:[^\"\\\n\0]|\\[^\n])*)\"")
_ESCAPE: Final = re.compile(r"\\(?:([abfnrtv\\'\"?])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))")
_SIMPLE: Final = dict(zip("abfnrtv\\'\"?", "\a\b\f\n\r\t\v\\'\"?", strict=True))
_PRINTABLE: Final = re.compile(r"[\t\n\r -~]*")


@dataclass(frozen=True, slots=True)
class SslConfig:
    """What the file says.

    Args:
        server_key: PEM private key. Never shown.
        server_cert: PEM certificate chain of the server.
        custom_ca: PEM certificates of the authorities whose clients are accepted; "" without client certificates.
        client_verify: Whether every client must show a certificate.
    """

    server_key: str = field(repr=False)
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False


def parse_ssl_config(raw: bytes) -> SslConfig:
    """Reads the file.

    Args:
        raw: ASCII text, at most 256 KiB.

    Returns:
        The configuration.

    Raises:
        FormatError: Not this message (``ssl_config.malformed``), or one no server should run with: no key, no
            certificate, or client certificates required without an authority (``ssl_config.incomplete``).
    """
    if len(raw) > MAX_BYTES or not raw.isascii():
        raise FormatError(f"not ASCII text of at most {MAX_BYTES} bytes", code=_CODE)
    return checked(_Reader(raw.decode("ascii")).message())


def serialize_ssl_config(config: SslConfig) -> bytes:
    r"""Writes the four lines TensorFlow Serving's users know: single quotes, ``\n`` at every line end.

    Args:
        config: PEM texts in ASCII.

    Returns:
        The text.

    Raises:
        FormatError: A text holds anything but printable ASCII (``ssl_config.malformed``), or something is missing
            (``ssl_config.incomplete``).
    """
    checked(config)
    lines = [f"{name}: {_quoted(getattr(config, name))}" for name in STRINGS]
    lines.append(f"{FLAG}: {'true' if config.client_verify else 'false'}")
    return ("\n".join(lines) + "\n").encode("ascii")


def checked(config: SslConfig) -> SslConfig:
    """`config`, if a server can run with it.

    Raises:
        FormatError: No key, no certificate, or client certificates required without an authority
            (``ssl_config.incomplete``).
    """
    if not config.server_key or not config.server_cert:
        raise FormatError("server_key and server_cert must both be there", code="ssl_config.incomplete")
    if config.client_verify and not config.custom_ca:
        raise FormatError("client_verify is true but custom_ca is empty", code="ssl_config.incomplete")
    return config


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def message(self) -> SslConfig:
        strings: dict[str, str] = {}
        flags: dict[str, bool] = {}
        self._skip()
        while self._position < len(self._text):
            name = self._take(_NAME, "a field name").group()
            if name in strings or name in flags:
                raise self._refuse(f"{name} twice")
            self._skip()
            self._literal(":")
            self._skip()
            if name in STRINGS:
                strings[name] = self._string()
            elif name == FLAG:
                flags[name] = self._boolean()
            else:
                raise self._refuse("unknown field")
            self._separator()
        return SslConfig(
            strings.get("server_key", ""),
            strings.get("server_cert", ""),
            strings.get("custom_ca", ""),
            flags.get(FLAG, False),
        )

    def _string(self) -> str:
        parts = []
        while self._text[self._position : self._position + 1] in {"'", '"'}:  # neighbours are joined, as in C
            match = self._take(_LITERAL, "a string")
            parts.append(_ESCAPE.sub(self._unescape, match.group(1) if match.group(2) is None else match.group(2)))
            self._skip()
        if not parts:
            raise self._refuse("a string is expected")
        value = "".join(parts)
        if not _PRINTABLE.fullmatch(value):
            raise self._refuse("a string holds more than printable ASCII")
        return value

    def _unescape(self, match: re.Match[str]) -> str:
        simple, octal, hexadecimal, unknown = match.groups()
        if simple is not None:
            return _SIMPLE[simple]
        if unknown is not None:
            raise self._refuse("unknown escape")
        return chr(int(octal, 8) if octal is not None else int(hexadecimal, 16))

    def _boolean(self) -> bool:
        word = self._take(_NAME, "true or false").group()
        if word not in {"true", "false"}:
            raise self._refuse("true or false is expected")
        self._skip()
        return word == "true"

    def _separator(self) -> None:
        if self._text[self._position : self._position + 1] in {",", ";"}:
            self._position += 1
        self._skip()

    def _literal(self, character: str) -> None:
        if not self._text.startswith(character, self._position):
            raise self._refuse(f"{character!r} is expected")
        self._position += 1

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise self._refuse(f"{what} is expected")
        self._position = match.end()
        return match

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._position)
        self._position = space.end() if space else self._position

    def _refuse(self, reason: str) -> FormatError:
        # The position, never the text: it may be a private key.
        return FormatError(f"ssl.cfg: {reason} at character {self._position}", code=_CODE)


def _quoted(value: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise FormatError("ssl.cfg: a text holds more than printable ASCII", code=_CODE)
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "'" + "".join(escapes.get(character, character) for character in value) + "'"
