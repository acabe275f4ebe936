"""Programs written for plain Spark: their paths of declared tables lead to checked tables.

``spark.read.parquet(FOLDER)`` lets Spark list the folder, and a listing is the storage's word. While an application
runs, PySpark's reader and writer are told by name which folders are tables; they then read exactly the files that were
checked, and what is written gets its manifest. Everything else is left as it is.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.analytics.manifest import MANIFEST_NAME
from strongroom.analytics.spark.evidence import PLUGINS_SETTING
from strongroom.analytics.spark.session import Session
from strongroom.analytics.spark.tables import frame
from strongroom.errors import ConfigurationError

_MODE: Final = "_strongroom_mode"


@dataclass(frozen=True, slots=True)
class Output:
    """A table that the application writes.

    Args:
        name: Its name.
        folder: Its folder.
        key: Its master key.
        column_keys: Column to the master key of its own.
    """

    name: str
    folder: Path
    key: str
    column_keys: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def declared(session: Session, outputs: list[Output]) -> Iterator[None]:
    """For the length of the block, declared folders are tables.

    Args:
        session: With the tables that are read declared.
        outputs: The tables that are written.
    """
    from pyspark import SparkContext
    from pyspark.sql.readwriter import DataFrameReader, DataFrameWriter
    from pyspark.sql.session import SparkSession

    inputs = {_normal(str(table.folder)): table for table in session.tables.values()}
    targets = {_normal(str(output.folder)): output for output in outputs}
    inside = threading.local()  # writing a table ends in one of these very methods
    with (
        _replaced(DataFrameReader, "parquet", lambda original: _reading(original, inputs)),
        _replaced(DataFrameReader, "load", lambda original: _reading(original, inputs)),
        _replaced(DataFrameWriter, "mode", _remembering),
        _replaced(DataFrameWriter, "parquet", lambda original: _writing(original, session, targets, inside)),
        _replaced(DataFrameWriter, "save", lambda original: _writing(original, session, targets, inside)),
        _replaced(SparkSession.Builder, "getOrCreate", lambda original: _adopting(original, session)),
        _replaced(SparkContext, "_initialize_context", lambda original: _attesting(original, session)),
    ):
        yield


Method = Callable[..., Any]


@contextmanager
def _replaced(owner: type, name: str, make: Callable[[Method], Method]) -> Iterator[None]:
    original = owner.__dict__[name]
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _reading(original: Method, inputs: Mapping[str, Any]) -> Method:
    def read(self: Any, *paths: Any, **options: Any) -> Any:
        given = [*paths, *([options["path"]] if isinstance(options.get("path"), str) else [])]
        tables = [inputs[_normal(path)] for path in given if isinstance(path, str) and _normal(path) in inputs]
        if not tables:
            return original(self, *paths, **options)
        if len(given) != 1:
            raise ConfigurationError("read one table at a time, and union them", code="spark.several_paths")
        return frame(self, tables[0])

    return read


def _remembering(original: Method) -> Method:
    def mode(self: Any, save_mode: str | None) -> Any:
        setattr(self, _MODE, save_mode)
        return original(self, save_mode)

    return mode


def _writing(original: Method, session: Session, targets: Mapping[str, Output], inside: threading.local) -> Method:
    def write(self: Any, path: Any = None, *more: Any, **options: Any) -> Any:
        output = targets.get(_normal(path)) if isinstance(path, str) else None
        if output is None or getattr(inside, "table", False):
            return original(self, path, *more, **options)
        if more or options.get("partitionBy"):
            raise ConfigurationError("a table is not partitioned into folders", code="spark.partitions")
        inside.table = True
        try:
            write_table(session, self._df, output, str(options.get("mode") or getattr(self, _MODE, None) or "error"))
        finally:
            inside.table = False
        return None

    return write


def write_table(session: Session, rows: Any, output: Output, mode: str) -> None:
    """Write a table as Spark's save modes say.

    Args:
        session: Writes.
        rows: DataFrame.
        output: The table.
        mode: error, append, overwrite or ignore.

    Raises:
        StrongroomError: As `Session.write`.
    """
    there, chosen = (output.folder / MANIFEST_NAME).exists(), mode.lower()
    if there and chosen == "ignore":
        return
    session.write(
        rows,
        output.name,
        output.folder,
        key=output.key,
        column_keys=output.column_keys,
        replace=chosen == "overwrite",
        append=there and chosen == "append",
    )


def _adopting(original: Method, session: Session) -> Method:
    def get_or_create(self: Any) -> Any:
        spark = original(self)
        session.adopt(spark)
        return spark

    return get_or_create


def _attesting(original: Method, session: Session) -> Method:
    """An application that has plugins of its own doesn't leave out ours, which collects the executors' evidence."""

    def initialize(self: Any, settings: Any) -> Any:
        if (participants := session.driver.participants) is not None:
            for name, value in participants.settings(settings.get(PLUGINS_SETTING, "")).items():
                settings.set(name, value)
        return original(self, settings)

    return initialize


def _normal(path: str) -> str:
    return os.path.realpath(path.removeprefix("file://").removeprefix("file:"))
