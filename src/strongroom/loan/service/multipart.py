"""Reads multipart/form-data as it comes, strictly, in memory of one chunk; no part is ever looked at byte by byte.

Source: RFC 7578; RFC 2046, section 5.1.1 (the delimiter), without preamble, nested parts and transfer encodings.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from strongroom.errors import FormatError

MAX_HEAD_BYTES: Final = 4096
MAX_EPILOGUE_BYTES: Final = 256

_BOUNDARY: Final = re.compile(
    r"""multipart/form-data\s*;\s*boundary=(?:"([A-Za-z0-9'()+_,./:=? -]{1,70})"|([A-Za-z0-9'()+_,./:=?-]{1,70}))\s*""",
    re.ASCII | re.IGNORECASE,
)
_PARAMETER: Final = re.compile(r';[ \t]*([A-Za-z]+)=("(?:[^"\\\r\n]|\\.)*"|[!#$%&\'*+.^_`|~0-9A-Za-z-]+)[ \t]*')
_PLAIN_ENCODINGS: Final = frozenset({"7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True)
class Part:
    """The head of one part.

    Args:
        name: Field name.
        filename: As sent, or None for a text field.
    """

    name: str
    filename: str | None


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header.

    Raises:
        FormatError: Not multipart/form-data, or without a proper boundary; code ``form.media_type``.
    """
    found = _BOUNDARY.fullmatch(content_type.strip())
    boundary = (found[1] or found[2]) if found else ""
    if not boundary or boundary.endswith(" "):
        raise FormatError("the body must be multipart/form-data with a boundary", code="form.media_type")
    return boundary.encode("ascii")


class MultipartReader:
    """A multipart body, fed chunk by chunk.

    Args:
        boundary: See `boundary_of`.
        begin: Called with the head of each part.
        data: Called with pieces of the part's content, in order.
    """

    def __init__(self, boundary: bytes, begin: Callable[[Part], None], data: Callable[[bytes], None]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._begin = begin
        self._data = data
        # The first delimiter has no line break before it.
        self._buffer = bytearray(b"\r\n")
        self._step: Callable[[], bool] = self._first
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            FormatError: Not such a body, code ``form.malformed``.
        """
        self._buffer += chunk
        while self._step():
            pass

    def finish(self) -> None:
        """Say that the body is at its end.

        Raises:
            FormatError: It is cut, code ``form.malformed``.
        """
        if not self._ended:
            _refuse("it is cut")

    def _first(self) -> bool:
        if len(self._buffer) < len(self._delimiter):
            if not self._delimiter.startswith(self._buffer):
                _refuse("it does not begin with its boundary")
            return False
        if not self._buffer.startswith(self._delimiter):
            _refuse("it does not begin with its boundary")
        del self._buffer[: len(self._delimiter)]
        self._step = self._after_delimiter
        return True

    def _after_delimiter(self) -> bool:
        if len(self._buffer) < 2:
            return False
        mark = bytes(self._buffer[:2])
        if mark == b"--":
            self._ended = True
            self._step = self._epilogue
        elif mark == b"\r\n":
            self._step = self._head
        else:
            _refuse("a boundary is followed by something else")
        del self._buffer[:2]
        return True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                _refuse("the head of a part is too long")
            return False
        self._begin(_part(bytes(self._buffer[:end])))
        del self._buffer[: end + 4]
        self._step = self._content
        return True

    def _content(self) -> bool:
        end = self._buffer.find(self._delimiter)
        if end >= 0:
            self._data(bytes(self._buffer[:end]))
            del self._buffer[: end + len(self._delimiter)]
            self._step = self._after_delimiter
            return True
        safe = len(self._buffer) - len(self._delimiter) + 1
        if safe > 0:
            self._data(bytes(self._buffer[:safe]))
            del self._buffer[:safe]
        return False

    def _epilogue(self) -> bool:
        if len(self._buffer) > MAX_EPILOGUE_BYTES or bytes(self._buffer).strip(b"\r\n"):
            _refuse("something follows its end")
        return False


def _part(head: bytes) -> Part:
    disposition = None
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            _refuse("a part has a malformed head")
        match name.strip().lower():
            case b"content-disposition" if disposition is None:
                disposition = value.strip()
            case b"content-disposition":
                _refuse("a part has two names")
            case b"content-transfer-encoding" if value.strip().lower().decode("latin-1") not in _PLAIN_ENCODINGS:
                raise FormatError("parts must be sent as they are, not encoded", code="form.encoding")
            case b"content-encoding":
                raise FormatError("parts must be sent as they are, not compressed", code="form.encoding")
            case _:
                pass
    return _disposition(disposition or b"")


def _disposition(raw: bytes) -> Part:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("the name of a part is not UTF-8")
    kind, parameters = text[: len("form-data")], text[len("form-data") :]
    if kind.lower() != "form-data":
        _refuse("a part is not form-data")
    values: dict[str, str] = {}
    position = 0
    while found := _PARAMETER.match(parameters, position):
        name = found[1].lower()
        if name in values:
            _refuse("a part has two names")
        quoted = found[2].startswith('"')
        values[name] = re.sub(r"\\(.)", r"\1", found[2][1:-1]) if quoted else found[2]
        position = found.end()
    if position != len(parameters) or not values.keys() <= {"name", "filename"} or "name" not in values:
        _refuse("a part has a malformed head")
    return Part(values["name"], values.get("filename"))


def _refuse(what: str) -> NoReturn:
    raise FormatError(f"the multipart body is malformed: {what}", code="form.malformed")
