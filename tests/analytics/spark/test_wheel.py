"""The wheel holds the engine's Java classes compiled, so that users need no Java compiler."""

import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from strongroom.analytics.spark.jar import JAR_NAME

pytest.importorskip("hatchling")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
BUILD = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"


def build(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Build a wheel from this tree; a `JAVA_HOME` without javac is a machine without one."""
    kept = {name: os.environ[name] for name in ("HOME", "JAVA_HOME", "PATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=ROOT,
        env={**kept, **variables, "STRONGROOM_BUILD_JAR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_the_compiled_classes(java: None, tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files, zipfile.ZipFile(BytesIO(files.read(_jar(files)))) as jar:
        classes = {Path(name).stem for name in jar.namelist() if "$" not in name}
    assert classes == {"BrokerKmsClient", "StrictCryptoFactory", "EvidencePlugin"}


def _jar(files: zipfile.ZipFile) -> str:
    (found,) = [name for name in files.namelist() if name.endswith(JAR_NAME)]
    return found


def test_a_release_without_a_compiler_is_an_error(java: None, tmp_path: Path) -> None:
    done = build(tmp_path, JAVA_HOME=str(tmp_path))
    assert done.returncode != 0
    assert "no javac here" in done.stderr
    assert not list(tmp_path.glob("*.whl"))
