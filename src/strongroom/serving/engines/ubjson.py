"""Checks that bytes are one well-formed UBJSON object, without building it.

XGBoost's own reader aborts the process on some malformed files and asks for all memory on others that are merely cut.
Nothing reaches it that does not pass here.

Source: UBJSON specification, draft 12 ("Universal Binary JSON"): types, containers, optimized containers.
"""

from typing import Final

from strongroom.errors import FormatError

MAX_DEPTH: Final = 64
_SIZES: Final = {b"Z": 0, b"T": 0, b"F": 0, b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8}
_INTEGERS: Final = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8}
_CODE: Final = "serving.ubjson"


def check_ubjson(raw: bytes) -> None:
    """Walk over one object; every length must lie within the bytes.

    Args:
        raw: All of it.

    Raises:
        FormatError: Anything else: cut, nested too deeply, unknown markers, bytes after the end.
    """
    walker = _Walker(raw)
    if walker.take(1) != b"{":
        raise walker.refuse("it is no object")
    walker.walk_object(0)
    if not walker.at_end:
        raise walker.refuse("it goes on after the end")


class _Walker:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._raw)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._raw):
            raise self.refuse("it is cut")
        taken = self._raw[self._position : end]
        self._position = end
        return taken

    def refuse(self, why: str) -> FormatError:
        return FormatError(f"not UBJSON: {why}, at byte {self._position}", code=_CODE)

    def walk_object(self, depth: int) -> None:
        kind, count = self._container(depth)
        done = 0
        while count is None or done < count:
            if count is None and self._peek() == b"}":
                self._position += 1
                return
            self._skip(self._length())  # the key, which has no marker of its own
            self._value(self.take(1) if kind is None else kind, depth)
            done += 1

    def _array(self, depth: int) -> None:
        kind, count = self._container(depth)
        if kind in _SIZES and count is not None:
            self._skip(_SIZES[kind] * count)
            return
        done = 0
        while count is None or done < count:
            if count is None and self._peek() == b"]":
                self._position += 1
                return
            self._value(self.take(1) if kind is None else kind, depth)
            done += 1

    def _container(self, depth: int) -> tuple[bytes | None, int | None]:
        """The optional type and count at the beginning of a container."""
        if depth >= MAX_DEPTH:
            raise self.refuse("it is nested too deeply")
        kind = None
        if self._peek() == b"$":
            self._position += 1
            kind = self.take(1)
        if self._peek() == b"#":
            self._position += 1
            count = self._length()
            if count > len(self._raw) - self._position and _SIZES.get(kind or b"", 1):
                raise self.refuse("a container is longer than the file")
            if kind is not None and not _SIZES.get(kind, 1):
                raise self.refuse("a container of nothing")
            return kind, count
        if kind is not None:
            raise self.refuse("a typed container without a count")
        return None, None

    def _value(self, marker: bytes, depth: int) -> None:
        if marker in _SIZES:
            self._skip(_SIZES[marker])
        elif marker in {b"S", b"H"}:
            self._skip(self._length())
        elif marker == b"{":
            self.walk_object(depth + 1)
        elif marker == b"[":
            self._array(depth + 1)
        else:
            raise self.refuse("an unknown marker")

    def _length(self) -> int:
        marker = self.take(1)
        if marker not in _INTEGERS:
            raise self.refuse("a length is expected")
        length = int.from_bytes(self.take(_INTEGERS[marker]), "big", signed=marker != b"U")
        if length < 0:
            raise self.refuse("a length is negative")
        return length

    def _peek(self) -> bytes:
        return self._raw[self._position : self._position + 1]

    def _skip(self, size: int) -> None:
        if size > len(self._raw) - self._position:
            raise self.refuse("it is cut")
        self._position += size
