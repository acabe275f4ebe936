"""Strongroom: machine learning on clouds you do not trust."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__", "arguments", "enter"]

if TYPE_CHECKING:
    from strongroom.composition import arguments, enter


def __getattr__(name: str) -> object:
    # Lazy, so that `strongroom --help` and `import strongroom.errors` stay cheap.
    if name in {"arguments", "enter"}:
        from strongroom import composition

        return getattr(composition, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
