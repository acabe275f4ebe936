"""Changes to objects as JSON Patch, so that Kustomize and this package do the same to them.

Source: RFC 6902 (JSON Patch: add, replace, remove) and RFC 6901 (JSON Pointer).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import ConfigurationError

Verb = Literal["add", "replace", "remove"]
END: Final = "-"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Args:
        verb: ``add``, ``replace`` or ``remove``.
        path: JSON pointer.
        value: For ``add`` and ``replace``.
    """

    verb: Verb
    path: str
    value: Any = None

    def to_json(self) -> Object:
        """As RFC 6902 writes it."""
        value = {} if self.verb == "remove" else {"value": self.value}
        return {"op": self.verb, "path": self.path, **value}


@dataclass(frozen=True, slots=True)
class Patch:
    """Operations on one object.

    Args:
        kind: Of the object; ``A|B``: either.
        name: Of the object.
        operations: In order; none: the object is deleted.
    """

    kind: str
    name: str
    operations: tuple[Operation, ...] = ()


def pointer(*parts: str | int) -> str:
    """A JSON pointer of unescaped parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def apply_patches(objects: Sequence[Object], patches: Sequence[Patch]) -> list[Object]:
    """Objects with patches applied; the originals are not changed.

    Raises:
        ConfigurationError: A patch fits no object, or several, or an operation doesn't fit (``deploy.patch``).
    """
    changed = [copy.deepcopy(item) for item in objects]
    for patch in patches:
        kinds = patch.kind.split("|")
        found = [item for item in changed if item["kind"] in kinds and item["metadata"]["name"] == patch.name]
        if len(found) != 1:
            raise ConfigurationError(
                f"a patch of {patch.kind} {patch.name} fits {len(found)} objects", code="deploy.patch"
            )
        if not patch.operations:
            changed = [item for item in changed if item is not found[0]]
        for operation in patch.operations:
            _apply(found[0], operation)
    return changed


def _apply(target: Any, operation: Operation) -> None:
    *folders, last = [part.replace("~1", "/").replace("~0", "~") for part in operation.path.split("/")[1:]]
    try:
        for part in folders:
            target = target[int(part)] if isinstance(target, list) else target[part]
        _change(target, last, operation)
    except (KeyError, IndexError, TypeError, ValueError):
        raise ConfigurationError(f"nothing to {operation.verb} at {operation.path}", code="deploy.patch") from None


def _change(target: Any, last: str, operation: Operation) -> None:
    value = copy.deepcopy(operation.value)
    if isinstance(target, list):
        place = len(target) if last == END else int(last)
        if operation.verb == "add":
            target.insert(place, value)
        elif operation.verb == "replace":
            target[place] = value
        else:
            del target[place]
    elif operation.verb == "remove":
        del target[last]
    elif operation.verb == "replace" and last not in target:
        raise KeyError(last)
    else:
        target[last] = value
