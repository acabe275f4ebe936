"""Finds the code of installed Python packages: sources and extension modules, without importing them."""

import importlib.machinery
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from strongroom.errors import ConfigurationError
from strongroom.workload.files import files_below

_CODE: Final = re.compile(r".*\.(py|pyd|dylib|so(\.[0-9]+)*)")


def find_package_code(names: tuple[str, ...]) -> dict[str, Path]:
    """The code files of packages that this interpreter would import.

    Shared libraries that wheels put next to a package, in ``NAME.libs``, belong to it.

    Args:
        names: Names as one imports them, without dots.

    Returns:
        ``package/relative/file.py`` to the file; sorted.

    Raises:
        ConfigurationError: A package is not installed here, is built in, or has no code (``workload.package``).
    """
    found: dict[str, Path] = {}
    for name in names:
        code = dict(_code_of(name))
        if not code:
            _refuse(name, "has no code files")
        found |= code
    return dict(sorted(found.items()))


def _code_of(name: str) -> Iterator[tuple[str, Path]]:
    spec = _find(name)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if len(folders) > 1 or (folders and spec.origin is None):
        _refuse(name, "is a namespace package, whose parts can come from anywhere")
    if not folders:
        if not spec.has_location or spec.origin is None:
            _refuse(name, "is part of the interpreter")
        file = Path(spec.origin)
        yield file.name, file
        return
    parent = folders[0].parent
    for part in (folders[0].name, f"{name}.libs"):
        if (parent / part).is_dir():
            yield from ((file, parent / file) for file in files_below(parent, part) if _CODE.fullmatch(file))


def _find(name: str) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        _refuse(name, "is not installed", hint="install it in the environment of this command")
    return spec


def _refuse(name: str, complaint: str, *, hint: str | None = None) -> NoReturn:
    raise ConfigurationError(f"package {name!r} {complaint}", code="workload.package", hint=hint)
