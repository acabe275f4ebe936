"""The Spark engine behind `strongroom analytics query --engine spark`: same tables, same checks, same results."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

from strongroom.analytics.engine import MAX_SQL_CHARS, Result, check_table_name
from strongroom.analytics.receipts import Worker
from strongroom.analytics.spark.failures import explained
from strongroom.analytics.spark.session import Session
from strongroom.analytics.spark.tables import frame
from strongroom.analytics.table import Table
from strongroom.errors import ConfigurationError, KeyReleaseError, StrongroomError

# A query reads tables; these run any Java.
_NO_QUERY: Final = ("reflect", "java_method", "try_reflect")


class SparkEngine:
    """Spark in this process, or on a cluster. Use it as a context manager.

    Args:
        session: An open session; closed with the engine.
    """

    name = "spark"

    def __init__(self, session: Session) -> None:
        import pyspark

        self.version = str(pyspark.__version__)
        self._session = session
        self._spark = session.spark
        self._spark.sparkContext.setLogLevel("OFF")  # what goes wrong is raised; the command tells it
        self._spark.conf.set("spark.sql.ansi.doubleQuotedIdentifiers", "true")  # as the embedded engine reads SQL
        self._forbid_java()

    def _forbid_java(self) -> None:
        registry = self._spark._jsparkSession.sessionState().functionRegistry()  # noqa: SLF001  # no public way
        jvm = self._spark._jvm  # noqa: SLF001
        folder = [jvm.scala.Option.apply(name) for name in ("builtin", "system")]
        for function in _NO_QUERY:
            registry.dropFunction(jvm.org.apache.spark.sql.catalyst.FunctionIdentifier(function, *folder))

    def query(self, sql: str, tables: Mapping[str, Table]) -> Result:
        """Start a query.

        Args:
            sql: One SELECT statement.
            tables: The tables it may use, by the names it uses.

        Raises:
            ConfigurationError: The statement is wrong, with the place; or not a SELECT.
            StrongroomError: A table can't be read.
        """
        if len(sql) > MAX_SQL_CHARS:
            raise ConfigurationError("the query is longer than a million characters", code="query.too_long")
        for name, table in tables.items():
            frame(self._spark.read, table).createOrReplaceTempView(check_table_name(name))
        self._check_select(sql)
        try:
            rows = self._spark.sql(sql)
        except Exception as error:
            failure = self._explained(error, tables)
            raise failure from None
        return Result(_arrow_schema(rows), self._batches(rows, tables))

    def _check_select(self, sql: str) -> None:
        """Refuse what is not a query: Spark runs commands while it parses them.

        Raises:
            ConfigurationError: Malformed, or a command.
        """
        parser = self._spark._jsparkSession.sessionState().sqlParser()  # noqa: SLF001
        try:
            parser.parseQuery(sql)
        except Exception as error:
            place = explained(error, {})
            raise ConfigurationError(
                place.message, code="query.sql", hint='a query is one SELECT, e.g. "SELECT count(*) FROM trips"'
            ) from None

    def _batches(self, rows: Any, tables: Mapping[str, Table]) -> Iterator[Any]:
        try:
            yield from rows.toArrow().to_batches()
        except Exception as error:
            failure = self._explained(error, tables)
            raise failure from None

    def _explained(self, error: Exception, tables: Mapping[str, Table]) -> StrongroomError:
        if refused := self._session.driver.refused:
            return KeyReleaseError(refused[-1], code="spark.executors_refused")
        return explained(error, tables)

    def workers(self) -> tuple[Worker, ...]:
        """The processes that took part, for a receipt.

        Raises:
            VerificationError: An executor took part and handed in no evidence.
            UnavailableError: Spark doesn't say which took part.
        """
        return self._session.workers()

    @property
    def job(self) -> bytes:
        """What the executors' evidence is about; see `Session.job`."""
        return self._session.job

    def progress(self) -> float:
        """Percent of the running stages' tasks that are done; negative when nothing is known."""
        tracker = self._spark.sparkContext.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        total = sum(stage.numTasks for stage in stages if stage)
        return 100 * sum(stage.numCompletedTasks for stage in stages if stage) / total if total else -1.0

    def close(self) -> None:
        """Stop Spark."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _arrow_schema(rows: Any) -> Any:
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(rows.schema, timezone="UTC")
