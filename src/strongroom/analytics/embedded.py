"""The embedded engine: DuckDB reads Parquet natively, and what it reads is decrypted underneath.

DuckDB is given files of a file system that exists in this process only: the plaintext view of each checked file
(`strongroom.analytics.parquet.decrypted`). So its own reader works, with projection, pruning by statistics and all
threads. Its own Parquet decryption is not used: it doesn't know the standard's key metadata, column keys or AAD
prefixes, and fails on column chunks of several pages.

The connection can reach nothing else: no file, no network, no extension, no Python variable, and no spilling to disk.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import duckdb
import fsspec

from strongroom.analytics.engine import MAX_SQL_CHARS, Result, check_table_name, quoted
from strongroom.analytics.parquet.reader import PlainReader
from strongroom.analytics.table import OpenPart, Table
from strongroom.errors import ConfigurationError, StrongroomError, UnavailableError

SCHEME: Final = "strongroom"
BATCH_ROWS: Final = 100_000
_REFUSED: Final = "strongroom: no key for "
_LINE: Final = re.compile(r"\n\nLINE (\d+): (.*)\n( *)\^", re.DOTALL)
_SETTINGS: Final[Mapping[str, Any]] = {
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "async_threads": 0,  # who reads through Python goes on with it: a change of threads costs more than it hides
    "enable_external_file_cache": False,  # a second copy of what the page cache holds encrypted
}
_LOCKS: Final = (
    "SET parquet_prefetch_column_gap = 0",  # what stands between two columns would be decrypted for nothing
    f"SET allowed_directories = ['{SCHEME}://']",
    "SET enable_external_access = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)


class EmbeddedEngine:
    """DuckDB in this process. Use it as a context manager.

    Args:
        threads: Worker threads; 0 means one for each processor.
        memory: Most memory it takes, e.g. "4GB"; empty: DuckDB's default, 80 % of the machine's.
    """

    name = "duckdb"
    version = str(duckdb.__version__)

    def __init__(self, *, threads: int = 0, memory: str = "") -> None:
        settings = dict(_SETTINGS)
        if threads:
            settings["threads"] = threads
        if memory:
            settings["memory_limit"] = memory
        self._files = _Files()
        self._connection = duckdb.connect(config=settings)
        self._connection.register_filesystem(self._files)
        for statement in _LOCKS:
            self._connection.execute(statement)

    def query(self, sql: str, tables: Mapping[str, Table]) -> Result:
        """Start a query.

        Args:
            sql: One SELECT statement.
            tables: The tables it may use, by the names it uses.

        Raises:
            ConfigurationError: The statement is wrong, with the place; or not a SELECT.
            KeyReleaseError: There is no right to a column that it names.
            StrongroomError: A table can't be read.
        """
        self._check(sql)
        for name, table in tables.items():
            self._show(check_table_name(name), table)
        try:
            reader = self._connection.sql(sql).to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            raise self._explain(self._placed(error, sql), sql, tables) from None
        return Result(reader.schema, self._batches(reader, sql, tables))

    def _placed(self, error: duckdb.Error, sql: str) -> duckdb.Error:
        """The error with the place in a wrong statement, which only `execute` tells."""
        try:
            self._connection.execute(f"EXPLAIN\n{sql}")
        except duckdb.Error as placed:
            return placed
        return error

    def _check(self, sql: str) -> None:
        """Refuse what is not one SELECT.

        Raises:
            ConfigurationError: Too long, malformed, several statements, or one that changes something.
        """
        if len(sql) > MAX_SQL_CHARS:
            raise ConfigurationError("the query is longer than a million characters", code="query.too_long")
        try:
            statements = self._connection.extract_statements(f"\n{sql}")
        except duckdb.Error as error:
            raise self._explain(error, sql, {}) from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ConfigurationError(
                "a query is one SELECT statement", code="query.not_select", hint='e.g. "SELECT count(*) FROM trips"'
            )

    def _show(self, name: str, table: Table) -> None:
        """Make a table visible. A column without a key is an expression that fails when it is used, and only then."""
        paths = [self._files.add(f"{name}/{part.part.name}", part) for part in table.parts]
        columns = [
            f"error('{_REFUSED}{name}/{column.name.replace(chr(39), '')}') AS {quoted(column.name)}"
            if column.name in table.refused
            else quoted(column.name)
            for column in table.manifest.columns
        ]
        self._connection.execute(
            f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT {', '.join(columns)} "  # noqa: S608  # quoted above
            f"FROM read_parquet({paths}, hive_partitioning = false, union_by_name = false)"
        )

    def _batches(self, reader: Any, sql: str, tables: Mapping[str, Table]) -> Iterator[Any]:
        try:
            yield from reader
        except (duckdb.Error, OSError) as error:
            raise self._explain(error, sql, tables) from None

    def _explain(self, error: Exception, sql: str, tables: Mapping[str, Table]) -> StrongroomError:
        """DuckDB's error as one of ours; an error of ours that went through DuckDB comes back as it was."""
        if (cause := self._files.failure) is not None:
            self._files.failure = None
            return cause
        text = str(error)
        for name, table in tables.items():
            for column, refusal in table.refused.items():
                if f"{_REFUSED}{name}/{column}" in text:
                    return refusal
        if isinstance(error, duckdb.OutOfMemoryException):
            return UnavailableError(
                "the query needs more memory than it may take; nothing is spilled to disk",
                code="query.memory",
                hint="more --memory, fewer columns, or --engine spark",
            )
        return ConfigurationError(_first_line(text) + _place(text), code="query.sql")

    def progress(self) -> float:
        """Percent of the running query that is done; negative when nothing is known."""
        return float(self._connection.query_progress())

    def close(self) -> None:
        """Close the connection; the plaintext in its memory is freed with it."""
        self._connection.close()
        self._files.clear()

    def __enter__(self) -> "EmbeddedEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].strip()


def _place(text: str) -> str:
    """Where in the statement it is, as " (line 1, column 8)"; empty when DuckDB doesn't say.

    What DuckDB saw had one line more at the start.
    """
    found = _LINE.search(text)
    if not found:
        return ""
    column = len(found[3]) - len(f"LINE {found[1]}: ") + 1
    return f" (line {int(found[1]) - 1}, column {column})"


class _Files(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of the tables, by paths that exist nowhere else. Only what DuckDB's reader calls is here."""

    protocol = SCHEME
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[str, OpenPart] = {}
        self._sizes: dict[str, int] = {}
        self.failure: StrongroomError | None = None

    def add(self, path: str, part: OpenPart) -> str:
        address = f"{SCHEME}://{path}"
        with part.open() as reader:
            self._sizes[address] = reader.size
        self._parts[address] = part
        return address

    def clear(self) -> None:
        self._parts.clear()

    def open(self, path: str, mode: str = "rb", **_options: Any) -> "_WatchedReader":
        if mode != "rb":
            raise PermissionError(path)
        return _WatchedReader(self, self._parts[path].open())

    def size(self, path: str) -> int:
        return self._sizes[path]

    def isfile(self, path: str) -> bool:
        return path in self._parts

    def glob(self, path: str, **_options: Any) -> list[str]:
        return [path] if path in self._parts else []

    def modified(self, _path: str) -> dt.datetime:
        return dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class _WatchedReader:
    """Keeps an error of ours, of which DuckDB passes on only the text."""

    def __init__(self, files: _Files, reader: PlainReader) -> None:
        self._files, self._reader = files, reader
        self.seek, self.tell, self.close = reader.seek, reader.tell, reader.close

    def read(self, size: int = -1) -> bytes:
        try:
            return self._reader.read(size)
        except StrongroomError as error:
            self._files.failure = error
            raise
