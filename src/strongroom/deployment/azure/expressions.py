"""Expressions of an ARM template, worked out as far as that needs no Azure: `parameters`, `concat`, `take`, `replace`.

Source: Azure Resource Manager documentation, "Syntax and expressions in ARM templates", "String functions".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from strongroom.errors import FormatError

MAX_DEPTH: Final = 32
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?[0-9]+)|(?P<word>[A-Za-z][A-Za-z0-9]*)|(?P<sign>[(),.\[\]]))"
)

Value = str | int
Known = Mapping[str, Value]


class _Symbolic(str):
    """A part of an expression that only Azure can work out, in its own spelling."""

    __slots__ = ()


def resolve(value: Any, parameters: Known) -> Any:
    """A template with every expression worked out as far as possible.

    Args:
        value: Any part of a parsed template.
        parameters: Values of its parameters.

    Returns:
        The same with texts in place of expressions; an expression that only Azure can work out stays one.

    Raises:
        FormatError: Not an expression, or of a parameter that there is not (``azure.expression``).
    """
    if isinstance(value, dict):
        return {name: resolve(part, parameters) for name, part in value.items()}
    if isinstance(value, list):
        return [resolve(part, parameters) for part in value]
    if not isinstance(value, str) or not value.startswith("[") or value.startswith("[["):
        return value
    found = _Reader(value, parameters).whole()
    return f"[{found}]" if isinstance(found, _Symbolic) else found


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, text: str, parameters: Known) -> None:
        self._whole = text
        self._parameters = parameters
        self._tokens: list[tuple[str, str]] = []
        place, inner = 0, text[1:-1] if text.endswith("]") else ""
        while place < len(inner.rstrip()):
            found = _TOKEN.match(inner, place)
            if found is None:
                raise self._refuse()
            kind = str(found.lastgroup)
            self._tokens.append((kind, found[kind]))
            place = found.end()
        self._next = 0

    def _refuse(self) -> FormatError:
        return FormatError(f"not an expression: {self._whole[:80]}", code="azure.expression")

    def _take(self, sign: str | None = None) -> tuple[str, str]:
        if self._next >= len(self._tokens):
            raise self._refuse()
        token = self._tokens[self._next]
        if sign is not None and token != ("sign", sign):
            raise self._refuse()
        self._next += 1
        return token

    def _sees(self, sign: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next] == ("sign", sign)

    def whole(self) -> Value:
        """The value of the whole text.

        Raises:
            FormatError: Something is missing or left over.
        """
        value = self._value(0)
        if self._next != len(self._tokens):
            raise self._refuse()
        return value

    def _value(self, depth: int) -> Value:
        kind, text = self._take()
        if depth > MAX_DEPTH or kind == "sign":
            raise self._refuse()
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return int(text)
        value = self._call(text, self._arguments(depth))
        while self._sees(".") or self._sees("["):
            value = _Symbolic(f"{_spell(value)}{self._member(depth)}")
        return value

    def _member(self, depth: int) -> str:
        if self._take()[1] == ".":
            return f".{self._take()[1]}"
        inner = _spell(self._value(depth + 1))
        self._take("]")
        return f"[{inner}]"

    def _arguments(self, depth: int) -> list[Value]:
        self._take("(")
        arguments: list[Value] = []
        while not self._sees(")"):
            if arguments:
                self._take(",")
            arguments.append(self._value(depth + 1))
        self._take(")")
        return arguments

    def _call(self, name: str, arguments: list[Value]) -> Value:
        if name == "parameters":
            if len(arguments) != 1 or str(arguments[0]) not in self._parameters:
                raise FormatError(f"no parameter {arguments}: {self._whole[:80]}", code="azure.expression")
            return self._parameters[str(arguments[0])]
        work = _FUNCTIONS.get(name)
        if work is None or any(isinstance(argument, _Symbolic) for argument in arguments):
            return _Symbolic(f"{name}({', '.join(map(_spell, arguments))})")
        try:
            return work(arguments)
        except (IndexError, TypeError, ValueError):
            raise self._refuse() from None


_FUNCTIONS: Final[dict[str, Callable[[list[Value]], Value]]] = {
    "concat": lambda arguments: "".join(map(str, arguments)),
    "take": lambda arguments: str(arguments[0])[: int(arguments[1])],
    "replace": lambda arguments: str(arguments[0]).replace(str(arguments[1]), str(arguments[2])),
}


def _spell(value: Value) -> str:
    if isinstance(value, _Symbolic | int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"
