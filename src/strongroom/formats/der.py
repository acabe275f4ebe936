"""A small strict DER reader and writer: definite minimal lengths, one-byte tags, no trailing bytes.

Source: ITU-T X.690 (DER). For structures that general X.509 libraries do not know (Intel's SGX extension) or refuse
(certificates whose signature algorithm carries a stray NULL).
"""

from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30

_MAX_LENGTH_BYTES: Final = 3
_MAX_OID_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Element:
    """One DER element.

    Args:
        tag: Its single tag byte, class and constructed bit included.
        content: Bytes of the value.
        raw: The whole element, tag and length included.
    """

    tag: int
    content: bytes
    raw: bytes


def parse_elements(raw: bytes, *, code: str, max_elements: int = 64) -> tuple[Element, ...]:
    """Splits `raw` into the elements it consists of, all of it.

    Args:
        raw: Concatenated DER elements, e.g. the content of a SEQUENCE.
        code: Code of the error.
        max_elements: More are refused.

    Returns:
        The elements in order.

    Raises:
        FormatError: Not DER, or too many elements (`code`).
    """
    elements: list[Element] = []
    position = 0
    while position < len(raw):
        if len(elements) == max_elements:
            raise FormatError(f"DER: more than {max_elements} elements", code=code)
        start, end = _content_range(raw, position, code)
        elements.append(Element(raw[position], raw[start:end], raw[position:end]))
        position = end
    return tuple(elements)


def parse_one(raw: bytes, tag: int, *, code: str) -> Element:
    """Reads the single element that `raw` consists of.

    Raises:
        FormatError: Not exactly one element with this tag (`code`).
    """
    start, end = _content_range(raw, 0, code)
    return expect(Element(raw[0], raw[start:end], raw[:end]), tag, code=code) if end == len(raw) else _refuse(code)


def expect(element: Element, tag: int, *, code: str) -> Element:
    """Gives the element back when it has this tag.

    Raises:
        FormatError: It has another one (`code`).
    """
    if element.tag != tag:
        raise FormatError(f"DER: tag {element.tag:#04x}, expected {tag:#04x}", code=code)
    return element


def parse_sequence(element: Element, *, code: str, max_elements: int = 64) -> tuple[Element, ...]:
    """The elements of a SEQUENCE.

    Raises:
        FormatError: Not a SEQUENCE, or its content is not DER (`code`).
    """
    return parse_elements(expect(element, SEQUENCE, code=code).content, code=code, max_elements=max_elements)


def parse_integer(element: Element, *, code: str, maximum: int, tag: int = INTEGER) -> int:
    """An INTEGER (or ENUMERATED) from 0 to `maximum`.

    Raises:
        FormatError: Another tag, not minimal, negative or too large (`code`).
    """
    content = expect(element, tag, code=code).content
    value = int.from_bytes(content, "big")
    if _integer_content(value) != content or value > maximum:
        raise FormatError(f"DER: not an integer from 0 to {maximum}", code=code)
    return value


def parse_boolean(element: Element, *, code: str) -> bool:
    """A BOOLEAN.

    Raises:
        FormatError: Another tag, or neither 00 nor FF (`code`).
    """
    content = expect(element, BOOLEAN, code=code).content
    if content not in {b"\x00", b"\xff"}:
        raise FormatError("DER: BOOLEAN is neither 00 nor FF", code=code)
    return content == b"\xff"


def parse_octets(element: Element, size: int, *, code: str) -> bytes:
    """An OCTET STRING of exactly `size` bytes.

    Raises:
        FormatError: Another tag or size (`code`).
    """
    content = expect(element, OCTET_STRING, code=code).content
    if len(content) != size:
        raise FormatError(f"DER: OCTET STRING of {len(content)} bytes, expected {size}", code=code)
    return content


def parse_oid(element: Element, *, code: str) -> str:
    """An OBJECT IDENTIFIER in dotted form.

    Raises:
        FormatError: Another tag, or not minimal, or too long (`code`).
    """
    content = expect(element, OBJECT_IDENTIFIER, code=code).content
    if not 0 < len(content) <= _MAX_OID_BYTES or content[-1] & 0x80:
        raise FormatError("DER: malformed object identifier", code=code)
    numbers: list[int] = []
    value, fresh = 0, True
    for byte in content:
        if fresh and byte == 0x80:  # a leading zero digit: a second spelling of the same number
            raise FormatError("DER: object identifier is not minimal", code=code)
        value = value << 7 | byte & 0x7F
        fresh = not byte & 0x80
        if fresh:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(n) for n in (first, numbers[0] - 40 * first, *numbers[1:]))


def encode(tag: int, *contents: bytes) -> bytes:
    """One element whose content is `contents` joined.

    Raises:
        FormatError: Longer than 16 MiB (``der.length``).
    """
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    if len(length) > _MAX_LENGTH_BYTES:
        raise FormatError(f"DER: element of {size} bytes", code="der.length")
    return bytes((tag, 0x80 | len(length))) + length + content


def encode_integer(value: int, tag: int = INTEGER) -> bytes:
    """An INTEGER (or ENUMERATED) that is not negative."""
    return encode(tag, _integer_content(value))


def encode_boolean(value: bool) -> bytes:
    """A BOOLEAN."""
    return encode(BOOLEAN, b"\xff" if value else b"\x00")


def encode_oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form."""
    first, second, *others = (int(part) for part in dotted.split("."))
    return encode(OBJECT_IDENTIFIER, *(_base128(number) for number in (40 * first + second, *others)))


def _content_range(raw: bytes, position: int, code: str) -> tuple[int, int]:
    start = position + 2
    if start > len(raw) or raw[position] & 0x1F == 0x1F:
        _refuse(code)
    size = raw[position + 1]
    if size >= 0x80:
        count = size & 0x7F
        start += count
        if not 0 < count <= _MAX_LENGTH_BYTES or start > len(raw):
            _refuse(code)
        size = int.from_bytes(raw[start - count : start], "big")
        if size < 0x80 or size >> (8 * (count - 1)) == 0:
            _refuse(code)
    if start + size > len(raw):
        _refuse(code)
    return start, start + size


def _refuse(code: str) -> Element:
    raise FormatError("DER: malformed tag or length, or trailing bytes", code=code)


def _integer_content(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))
