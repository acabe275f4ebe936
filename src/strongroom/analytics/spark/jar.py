"""The Java classes as a jar: compiled when the wheel is built, or on first use from a source tree.

Only the standard library is imported here, because the wheel's build hook uses this module too.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from strongroom.errors import ConfigurationError

JAR_NAME: Final = "strongroom-spark.jar"
JAVA_RELEASE: Final = "17"
_HERE: Final = Path(__file__).parent
_SOURCES: Final = _HERE / "java"
_LIBRARIES: Final = (
    *("parquet-*.jar", "hadoop-client-api-*.jar", "slf4j-api-*.jar"),
    *("spark-core_*.jar", "spark-common-utils_*.jar", "scala-library-*.jar", "jackson-annotations-*.jar"),
)
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)


def jar_path() -> Path:
    """The jar of this installation; compiled first if this is a source tree and it is not there yet.

    Raises:
        ConfigurationError: There is no jar, and no javac or no PySpark to make one.
    """
    shipped = _HERE / JAR_NAME
    if shipped.is_file():
        return shipped
    cached = _cache_folder() / f"strongroom-spark-{_sources_digest()}.jar"
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        compile_jar(cached)
    return cached


def compile_jar(target: Path) -> None:
    """Compile the classes with plain javac against the jars that PySpark ships.

    Args:
        target: The jar; put in place in one step. The same sources and javac give the same bytes.

    Raises:
        ConfigurationError: There is no javac or no PySpark, or the sources don't compile.
    """
    javac, jars = _javac(), pyspark_folder() / "jars"
    libraries = sorted(str(jar) for pattern in _LIBRARIES for jar in jars.glob(pattern))
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [javac, "--release", JAVA_RELEASE, "-proc:none", "-d", folder, "-cp", os.pathsep.join(libraries)]
        done = subprocess.run([*command, *_sources()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigurationError(f"javac failed: {done.stderr.strip()[:2000]}", code="spark.javac")
        made = Path(folder) / JAR_NAME
        _pack(Path(folder), made)
        made.replace(target)


def pyspark_folder() -> Path:
    """Where PySpark is installed.

    Raises:
        ConfigurationError: It isn't.
    """
    found = find_spec("pyspark")
    if found is None or found.origin is None:
        raise ConfigurationError(
            "PySpark is not installed", code="spark.absent", hint="pip install 'strongroom[spark,analytics]'"
        )
    return Path(found.origin).parent


def find_java(program: str = "java") -> str | None:
    """A program of the Java installation: of JAVA_HOME if that is set, else on the path."""
    home = os.environ.get("JAVA_HOME")
    if home:
        found = Path(home) / "bin" / program
        return str(found) if found.is_file() else None
    return shutil.which(program, path=os.environ.get("PATH", os.defpath))


def _javac() -> str:
    """The compiler.

    Raises:
        ConfigurationError: There is none.
    """
    found = find_java("javac")
    if found is None:
        raise ConfigurationError(
            "the Spark engine's Java classes are not compiled yet, and there is no javac here",
            code="spark.javac",
            hint="install a wheel of Strongroom, which holds them compiled, or a JDK 17 or newer",
        )
    return found


def _sources() -> list[str]:
    return sorted(str(source) for source in _SOURCES.glob("*.java"))


def _sources_digest() -> str:
    content = b"".join(Path(source).read_bytes() for source in _sources())
    return hashlib.sha256(content).hexdigest()[:16]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strongroom"


def _pack(folder: Path, target: Path) -> None:
    classes = sorted(folder.rglob("*.class"))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as jar:
        for item in classes:
            entry = zipfile.ZipInfo(item.relative_to(folder).as_posix(), _MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            jar.writestr(entry, item.read_bytes())
