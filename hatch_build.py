"""Build hook: compiles the Spark engine's Java classes into the wheel, so that users need no Java compiler."""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REQUIRED = "STRONGROOM_BUILD_JAR"


class SparkJarHook(BuildHookInterface[Any]):
    """Needs javac and PySpark where the wheel is built. Without them the wheel compiles on first use; a release must
    not, so it is built with ``STRONGROOM_BUILD_JAR=1``, which makes their absence an error.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the jar to a wheel; an editable installation compiles on first use.

        Raises:
            ConfigurationError: The jar is required and can't be made.
        """
        if version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        try:
            from strongroom.analytics.spark.jar import JAR_NAME, compile_jar
            from strongroom.errors import ConfigurationError
        finally:
            sys.path.pop(0)
        target = Path(self.directory) / JAR_NAME
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            compile_jar(target)
        except ConfigurationError as error:
            if os.environ.get(REQUIRED):
                raise
            self.app.display_warning(f"this wheel holds no {JAR_NAME}: {error}")
            return
        build_data["force_include"][str(target)] = f"strongroom/analytics/spark/{JAR_NAME}"
