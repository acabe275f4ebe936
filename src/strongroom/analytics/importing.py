"""CSV, JSON lines, text and Parquet in: one schema for all files, rows streamed in batches."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from strongroom.errors import ConfigurationError, FormatError
from strongroom.room.file_errors import file_errors

FORMATS: Final[Mapping[str, str]] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": "text",
}
BIGDL_SUFFIX: Final = ".cbc"
BLOCK_BYTES: Final = 8 * 1024 * 1024
Opener = Callable[[Path], Any]
_VALUE: Final = re.compile(r"(invalid value|value) '.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to import.

    Args:
        schema: Arrow schema that every batch is brought to.
        files: The files, in order.
        format: "csv", "json", "parquet" or "text".
        open: Opens a file.
    """

    schema: pa.Schema
    files: tuple[Path, ...]
    format: str
    open: Opener

    def batches(self) -> Iterator[Any]:
        """The rows as Arrow record batches.

        Raises:
            FormatError: A file doesn't follow its format, or has other columns than the first.
            ConfigurationError: A file can't be read.
            UnavailableError: The disk fails.
        """
        for path in self.files:
            with file_errors(path), _arrow_errors(path):
                reader = _reader(self.open(path), self.format, self.schema)
                _refuse_drift(path, reader.schema, self.schema)
                for batch in reader:
                    yield batch.select(self.schema.names).cast(self.schema)


def open_source(path: Path, types: Mapping[str, str] | None = None, opener: Opener = str) -> Source:
    """Look at what is to be imported; the schema is one that all files fit into.

    Args:
        path: A file, or a folder of files of one format.
        types: Arrow type for a column instead of the one that is guessed, e.g. ``{"zip": "string"}``.
        opener: Opens a file, for those that are encrypted in another form.

    Raises:
        FormatError: A file doesn't follow its format, or has other columns than the first.
        ConfigurationError: Nothing to import, several formats, an unknown type or column.
        UnavailableError: The disk fails.
    """
    files = _files(path)
    if opener is str and (sealed := [file for file in files if file.name.endswith(BIGDL_SUFFIX)]):
        raise ConfigurationError(
            f"{sealed[0].name} is one of BigDL's encrypted files", code="import.bigdl", hint="name its key: --bigdl-key"
        )
    formats = {_format(file) or "" for file in files}
    if len(formats) != 1:
        raise ConfigurationError(f"{path} holds files of several formats: {sorted(formats)}", code="import.formats")
    given = {name: _type(text) for name, text in (types or {}).items()}
    kind = formats.pop()
    found = _common_schema(files, kind, pa.schema(list(given.items())), opener)
    if kind == "csv" and (binary := [item.name for item in found if pa.types.is_binary(item.type)]):
        raise FormatError(f"{path.name}: column {binary[0][:100]!r} is not UTF-8 text", code="import.encoding")
    if unknown := given.keys() - set(found.names):
        raise ConfigurationError(f"no column {min(unknown)!r} in {files[0].name}", code="import.column")
    columns = [pa.field(f.name, given.get(f.name, storable(f.type)), f.nullable) for f in found]
    return Source(pa.schema(columns), files, kind, opener)


def storable(type_: pa.DataType) -> pa.DataType:
    """The type that every engine reads, for one that some don't: microseconds, plain strings, no nulls-only column."""
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", type_.tz)
    if pa.types.is_dictionary(type_):
        return storable(type_.value_type)
    if pa.types.is_null(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_):
        return pa.binary()
    return pa.date32() if pa.types.is_date64(type_) else type_


def _common_schema(files: tuple[Path, ...], kind: str, given: pa.Schema, opener: Opener) -> pa.Schema:
    """What every file's first block fits into: a column may be empty in one and hold fractions in another."""
    common: Any = None
    for path in files:
        with file_errors(path), _arrow_errors(path):
            found = _reader(opener(path), kind, given).schema
            if common is None:
                common = found
            _refuse_drift(path, found, common)
            common = pa.unify_schemas([common, found], promote_options="permissive")
    return common


def _files(path: Path) -> tuple[Path, ...]:
    with file_errors(path):
        found = sorted(path.iterdir()) if path.is_dir() else [path]
    files = tuple(file for file in found if _format(file) and file.name[0] not in "._")
    if not files:
        raise ConfigurationError(
            f"nothing to import at {path}", code="import.nothing", hint="files ending in " + " ".join(FORMATS)
        )
    return files


def _format(file: Path) -> str | None:
    """The format that a name says; BigDL's encrypted files have one more ending."""
    return FORMATS.get(Path(file.name.removesuffix(BIGDL_SUFFIX)).suffix.lower())


def _type(text: str) -> pa.DataType:
    try:
        return pa.type_for_alias(text)
    except ValueError:
        raise ConfigurationError(
            f"no such column type: {text[:50]}", code="import.type", hint="e.g. string, int64, double, timestamp[us]"
        ) from None


def _reader(source: Any, kind: str, schema: pa.Schema) -> Any:
    """A reader of record batches with a `schema`; `schema` gives the types that are known already."""
    if kind == "csv":
        return pa_csv.open_csv(
            source,
            read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
            convert_options=pa_csv.ConvertOptions(column_types=schema, strings_can_be_null=True),
        )
    if kind == "json":
        return pa_json.open_json(
            source,
            read_options=pa_json.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa_json.ParseOptions(explicit_schema=schema),
        )
    if kind == "text":
        return _lines(source)
    file = pq.ParquetFile(source)
    return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(batch_size=128 * 1024))


def _lines(source: Any) -> Any:
    """Lines of text as one column, as Spark names it."""
    return pa_csv.open_csv(
        source,
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, column_names=["value"]),
        parse_options=pa_csv.ParseOptions(delimiter="\x1f", quote_char=False, ignore_empty_lines=False),
        convert_options=pa_csv.ConvertOptions(column_types={"value": pa.string()}, null_values=[]),
    )


def _refuse_drift(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    if set(found.names) != set(wanted.names) or len(found.names) != len(set(found.names)):
        differing = sorted(set(found.names) ^ set(wanted.names))
        raise FormatError(
            f"{path.name}: other columns than the first file: {', '.join(differing[:10]) or 'a name occurs twice'}",
            code="import.schema_drift",
        )


class _arrow_errors:  # noqa: N801  # reads as a word in a with statement
    """Arrow's errors as ours, without the values that they quote."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowInvalid | pa.ArrowNotImplementedError | pa.ArrowTypeError):
            text = _VALUE.sub("a value of another kind", str(error).splitlines()[0])[:300]
            raise FormatError(
                f"{self._path.name}: {text}", code="import.malformed", hint="give the column a type: --type NAME=string"
            ) from None
