"""From a folder of sealed files to a version that answers."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from strongroom.errors import ConfigurationError, FormatError, StrongroomError, VerificationError
from strongroom.serving.engines import Engine, EngineMaker
from strongroom.serving.isolation.engine import IsolatedEngine
from strongroom.serving.models.batching import BatchingRunner
from strongroom.serving.models.heap import trim_heap
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.runner import DirectRunner, Runner
from strongroom.serving.models.served import ServedVersion
from strongroom.serving.models.storage import ModelStorage, VersionFiles

QUICK_S: Final = 0.002


def load_version(
    storage: ModelStorage, makers: Sequence[EngineMaker], settings: ModelSettings, version: int, folder: str
) -> ServedVersion:
    """Read, load, check and warm up one version.

    Args:
        storage: Where the files are.
        makers: The engines there are, the preferred first.
        settings: Of the model.
        version: Its number.
        folder: Name of the version's folder below the base path.

    Raises:
        StrongroomError: Its files do not open, are no model, or are not the model the configuration names.
    """
    files = VersionFiles(storage, f"{settings.base_path}/{folder}")
    maker = _maker(makers, settings, files.names)
    engine = _engine(maker, files, settings)
    try:
        digest = files.digest()
        _check_digest(settings, version, digest)
        slowest_s = _warm_up(engine)
    except StrongroomError:
        engine.close()
        raise
    finally:
        trim_heap(files.read_bytes)
    quick = slowest_s < QUICK_S and not settings.isolated  # a process that hangs must hold no thread that reads
    runner = _runner(engine, settings)
    return ServedVersion(settings.name, version, engine, runner, digest, quick=quick, model_bytes=files.read_bytes)


def _engine(maker: EngineMaker, files: VersionFiles, settings: ModelSettings) -> Engine:
    load = partial(maker.load, concurrency=settings.limits.concurrency)
    if not settings.isolated:
        return load(files)
    batches = settings.batching.threads if settings.batching else 0
    return IsolatedEngine(load, files, settings.limits.concurrency + batches, settings.limits.timeout_s)


def _maker(makers: Sequence[EngineMaker], settings: ModelSettings, names: frozenset[str]) -> EngineMaker:
    if not names:
        raise FormatError("the version has no files", code="serving.model_files")
    for maker in makers:
        if maker.name == settings.engine or (not settings.engine and maker.recognises(names)):
            return maker
    known = ", ".join(maker.name for maker in makers)
    raise ConfigurationError(
        f"no engine {settings.engine!r}" if settings.engine else "no engine takes these files",
        code="serving.engine",
        hint=f"engines here: {known}",
    )


def _check_digest(settings: ModelSettings, version: int, digest: str) -> None:
    expected = settings.digests.get(version, digest)
    if digest != expected.lower().removeprefix("sha256:"):
        raise VerificationError(
            f"version {version} has the digest {digest}, the configuration names another", code="serving.digest"
        )


def _warm_up(engine: Engine) -> float:
    """A version must answer each of its signatures before anybody else may ask it.

    Returns:
        Seconds of the slowest answer, the first of each signature not counted.

    Raises:
        FormatError: It does not.
        StrongroomError: What the engine itself says.
    """
    try:
        return max(_seconds(engine, name) for name in engine.signatures)
    except StrongroomError:
        raise
    except Exception as error:
        raise FormatError(f"the model does not answer: {type(error).__name__}", code="serving.warm_up") from None


def _seconds(engine: Engine, name: str) -> float:
    """How long the second answer takes: the first one may still allocate."""
    example, outputs = engine.example(name), tuple(engine.signatures[name].outputs)
    engine.run(name, example, outputs)
    started = time.perf_counter()
    engine.run(name, example, outputs)
    return time.perf_counter() - started


def _runner(engine: Engine, settings: ModelSettings) -> Runner:
    if settings.batching is None:
        return DirectRunner(engine, settings.limits)
    return BatchingRunner(engine, settings.batching, settings.limits)
