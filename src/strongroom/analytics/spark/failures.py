"""Errors of Spark as errors of ours: what is wrong with the statement and where, or what is wrong with the data."""

import re
from collections.abc import Mapping
from typing import Final

from strongroom.analytics.table import Table
from strongroom.errors import (
    ConfigurationError,
    KeyReleaseError,
    StrongroomError,
    Tampered,
    UnavailableError,
    VerificationError,
    WrongKey,
)
from strongroom.outcome import one_line

MAX_CHARS: Final = 500
_COLUMN: Final = re.compile(r"Column \[([^\]]{1,400})\]: key access denied")
_CONDITION: Final = re.compile(r"^\[(?P<condition>[A-Z0-9_.]+)\] ")
_STATE: Final = re.compile(r"\.? SQLSTATE: \w+.*")
_CLASS: Final = re.compile(r"^(Caused by: )?([a-z]\w*\.)+[A-Z]\w*: ")
_PLACES: Final = (
    (re.compile(r"== SQL \(line (\d+), position (\d+)\)"), 0),
    (re.compile(r"\(line (\d+), pos (\d+)\)"), 1),
    (re.compile(r"line (\d+) pos (\d+)"), 1),
)
_NOT_THE_STATEMENT: Final = ("FAILED_READ_FILE", "TASK_WRITE_FAILED", "INTERNAL_ERROR", "FAILED_RENAME")
# What stands in a Java exception's text, and what it means.
_CAUSES: Final[tuple[tuple[str, type[StrongroomError], str], ...]] = (
    ("is not the file that the manifest names", VerificationError, "table.part_swapped"),
    ("was written elsewhere or under another name", VerificationError, "spark.scratch_swapped"),
    ("AAD Prefix Verifier is set, but AAD Prefix not found", VerificationError, "spark.scratch_swapped"),
    ("Applying decryptor on plaintext file", VerificationError, "parquet.plaintext"),
    ("GCM tag check failed", Tampered, "sealed.tampered"),
    ("AEADBadTagException", Tampered, "sealed.tampered"),
    ("[sealed.wrong_key]", WrongKey, "sealed.wrong_key"),
    ("[unavailable]", UnavailableError, "unavailable"),
    ("[broker.", UnavailableError, "broker.unreachable"),
    ("KeyAccessDeniedException", KeyReleaseError, "analytics.key_refused"),
    ("FileNotFoundException", VerificationError, "table.part_missing"),
    ("FILE_NOT_EXIST", VerificationError, "table.part_missing"),
    ("No space left on device", UnavailableError, "disk.full"),
)


def explained(error: Exception, tables: Mapping[str, Table]) -> StrongroomError:
    """An error of Spark as one of ours.

    Args:
        error: What PySpark or Py4J raised.
        tables: The tables of the query.

    Returns:
        Why a column or file can't be read, if that is it; else what is wrong with the statement, and where; else what
        failed.
    """
    text = str(error)
    if (refusal := _refused_column(text, tables)) is not None:
        return refusal
    cause = _root_cause(text)
    for words, kind, code in _CAUSES:
        if words in text:
            return kind(cause, code=code)
    condition = _CONDITION.match(text.lstrip())
    if condition is not None and not condition["condition"].startswith(_NOT_THE_STATEMENT):
        return ConfigurationError(_statement(text) + _place(text), code="query.sql")
    return UnavailableError(f"Spark failed: {cause}", code="query.spark")


def _refused_column(text: str, tables: Mapping[str, Table]) -> KeyReleaseError | None:
    found = _COLUMN.search(text)
    if found is None:
        return None
    column = found[1].replace(",", ".").split(".")[0].strip()
    for table in tables.values():
        if column in table.refused:
            return table.refused[column]
    return KeyReleaseError(f"no right to the key of column {column!r}", code="analytics.key_refused")


def _statement(text: str) -> str:
    first = text.lstrip().split("\n", 1)[0]
    return one_line(_STATE.sub("", _CONDITION.sub("", first)))[:MAX_CHARS]


def _root_cause(text: str) -> str:
    """The innermost exception's text, without its class and stack."""
    lines = [line.strip() for line in text.splitlines()]
    causes = [line for line in lines if line.startswith("Caused by: ")] or [line for line in lines if line][:1]
    return (
        one_line(_STATE.sub("", _CONDITION.sub("", _CLASS.sub("", causes[-1]))))[:MAX_CHARS] if causes else "no reason"
    )


def _place(text: str) -> str:
    """Where in the statement, as " (line 1, column 8)"; empty where Spark doesn't say."""
    for pattern, base in _PLACES:
        if found := pattern.search(text):
            return f" (line {found[1]}, column {int(found[2]) + base})"
    return ""
