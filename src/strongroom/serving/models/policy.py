"""Which versions are wanted: pure decisions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from strongroom.serving.models.limits import BatchingLimits, ModelLimits


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """TensorFlow Serving's ServableVersionPolicy.

    Args:
        latest: Serve this many of the highest versions; None with `specific` or for all.
        specific: Serve exactly these versions.
    """

    latest: int | None = 1
    specific: frozenset[int] = frozenset()

    def wanted(self, present: Iterable[int]) -> frozenset[int]:
        """The versions to serve, of those that are there."""
        numbers = sorted(present)
        if self.specific:
            return self.specific.intersection(numbers)
        return frozenset(numbers if self.latest is None else numbers[-self.latest :])


ALL_VERSIONS = VersionPolicy(latest=None)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What the configuration says about one model.

    Args:
        name: Name callers use.
        base_path: Folder that has one numbered folder for each version, relative to the storage.
        policy: Which versions to serve.
        labels: Label to version.
        engine: Name of the engine; empty to tell it from the files.
        digests: Version to the only digest (hex) it may have; versions that are not named may have any.
        limits: Concurrency and queue.
        batching: How requests are put together; None for not at all.
        isolated: Whether the engine runs in a process of its own, so that its crash is not the server's.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    engine: str = ""
    digests: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    limits: ModelLimits = field(default_factory=ModelLimits)
    batching: BatchingLimits | None = None
    isolated: bool = False


def version_folders(names: Iterable[str]) -> dict[int, str]:
    """Version number to folder name: decimal, as TensorFlow Serving reads them ("00000123" is version 123).

    Of two names for one number the shorter counts, whatever order the storage lists them in.
    """
    found: dict[int, str] = {}
    for name in sorted(names, key=lambda name: (-len(name), name)):
        if name.isascii() and name.isdigit() and len(name) <= 18:
            found[int(name)] = name
    return found
