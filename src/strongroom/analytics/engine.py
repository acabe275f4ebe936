"""What the engines have in common: a query comes in, checked tables with it, and record batches come out."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from strongroom.analytics.table import Table
from strongroom.errors import ConfigurationError

MAX_SQL_CHARS: Final = 1024 * 1024
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gives, while it runs.

    Args:
        schema: Arrow schema.
        batches: Record batches; taking them runs the query, and raises where it fails.
    """

    schema: Any
    batches: Iterator[Any]


class Engine(Protocol):
    """Runs SQL over checked tables."""

    name: str
    version: str

    def progress(self) -> float:
        """Percent of the running query that is done; negative when nothing is known."""
        ...

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
        ...


def query_digest(sql: str) -> bytes:
    """SHA-256 of the statement's UTF-8 bytes, exactly as it was given."""
    return hashlib.sha256(sql.encode()).digest()


def check_table_name(name: str) -> str:
    """The name if SQL can use it without quotes.

    Raises:
        ConfigurationError: It is no plain SQL identifier.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ConfigurationError(
            f"not a table name: {name[:100]!r}",
            code="analytics.table_name",
            hint="letters, digits and '_'; say NAME=FOLDER if the folder is called otherwise",
        )
    return name


def quoted(identifier: str) -> str:
    """An identifier as SQL writes it whatever it holds."""
    return '"' + identifier.replace('"', '""') + '"'
