"""BigDL PPML's `PPMLContext` over encrypted tables, as far as its calls mean the same here: Parquet and SQL.

A path is a table of the path's last name; a primary key is the name of a master key at the broker. What has no
counterpart is refused instead of doing something weaker.

Source: BigDL 2.4, python/ppml/src/bigdl/ppml/ppml_context.py (names of the calls and modes).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from strongroom.analytics.spark.session import Session, session
from strongroom.analytics.spark.unmodified import Output, write_table
from strongroom.errors import ConfigurationError

AES_GCM_V1: Final = "AES_GCM_V1"


class PPMLContext:
    """A session with BigDL's calls.

    Args:
        app_name: Name of the application.
        ppml_args: BigDL's settings of its key services; not read: keys are the broker's.
        spark_conf: Spark's settings.
        opened: A session to use; None: start one, which attests.
    """

    def __init__(
        self, app_name: str, ppml_args: object = None, spark_conf: Mapping[str, str] | None = None, *,
        opened: Session | None = None,
    ) -> None:  # fmt: skip
        self.session = opened or session(settings={**(spark_conf or {}), "spark.app.name": app_name})
        self.sql = self.session.spark.sql

    def read(self, crypto_mode: str, primary_key: str = "") -> "_Call":
        """Follow with ``.parquet(path)``: the checked table as a DataFrame; it must use the key, if one is given."""
        return _Call(self.session, crypto_mode, primary_key)

    def write(self, dataframe: Any, crypto_mode: str, primary_key: str) -> "_Call":
        """Follow with ``.mode(...)`` as Spark has it, and ``.parquet(path)``."""
        return _Call(self.session, crypto_mode, primary_key, dataframe)


class _Call:
    def __init__(self, opened: Session, crypto_mode: str, key: str, dataframe: Any = None) -> None:
        if crypto_mode != AES_GCM_V1:
            raise ConfigurationError(
                f"{crypto_mode} is not read or written here: only AES_GCM_V1 notices every altered byte",
                code="ppml.mode",
                hint="bring the files in once: strongroom analytics import (--bigdl-key FILE for AES/CBC)",
            )
        self._session, self._key, self._dataframe, self._mode = opened, key, dataframe, "error"

    def mode(self, save_mode: str) -> "_Call":
        self._mode = save_mode
        return self

    def parquet(self, path: str) -> Any:
        if self._dataframe is not None:
            return write_table(
                self._session, self._dataframe, Output(Path(path).name, Path(path), self._key), self._mode
            )
        manifest = self._session.declare(Path(path).name, path).manifest
        if self._key and self._key not in {manifest.key, *(column.key for column in manifest.columns)}:
            raise ConfigurationError(f"{path} is not under the key {self._key}", code="ppml.key")
        return self._session.table(Path(path).name, path)
