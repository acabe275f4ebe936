"""Code of installed packages is found without running it and counts byte for byte."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from strongroom.errors import ConfigurationError
from strongroom.workload import Workload, measure
from strongroom.workload.packages import find_package_code

_numbers = itertools.count()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def package(site: Path) -> Path:
    """A package with a name of its own: the import system remembers what it has seen."""
    folder = site / f"strongroom_sample_{next(_numbers)}"
    (folder / "inner" / "__pycache__").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('measuring must not run the code')\n")
    (folder / "inner" / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"ELF")
    (folder / "inner" / "libx.so.1.2").write_bytes(b"ELF")
    (folder / "inner" / "__pycache__" / "x.pyc").write_bytes(b"")
    (folder / "data.csv").write_text("1")
    (folder / "py.typed").write_text("")
    return folder


def test_finds_sources_and_extensions_only_and_runs_nothing(package: Path) -> None:
    name = package.name
    assert find_package_code((name,)) == {
        f"{name}/__init__.py": package / "__init__.py",
        f"{name}/inner/fast.cpython-311-x86_64-linux-gnu.so": package / "inner/fast.cpython-311-x86_64-linux-gnu.so",
        f"{name}/inner/libx.so.1.2": package / "inner/libx.so.1.2",
    }
    assert name not in sys.modules


def test_libraries_beside_the_package_belong_to_it(package: Path) -> None:
    libraries = package.with_name(f"{package.name}.libs")
    libraries.mkdir()
    (libraries / "libblas-1.so.0").write_bytes(b"ELF")
    assert f"{package.name}.libs/libblas-1.so.0" in find_package_code((package.name,))


def test_single_module(site: Path) -> None:
    name = f"strongroom_sample_{next(_numbers)}"
    (site / f"{name}.py").write_text("")
    assert list(find_package_code((name,))) == [f"{name}.py"]


@pytest.mark.parametrize("name", ["__init__.py", "inner/libx.so.1.2"])
def test_changed_package_changes_the_measurement(
    package: Path, read: Callable[[Any], Workload], document: dict[str, Any], name: str
) -> None:
    workload = read({**document, "packages": [package.name]})
    before = measure(workload)
    (package / "data.csv").write_text("2")
    assert measure(workload) == before
    (package / name).write_bytes((package / name).read_bytes() + b" ")
    assert measure(workload).mr_enclave != before.mr_enclave


def test_own_package_can_be_measured(read: Callable[[Any], Workload], document: dict[str, Any]) -> None:
    files = measure(read({**document, "packages": ["strongroom"]})).files
    assert "package:strongroom/workload/measure.py" in files
    assert not any("__pycache__" in name for name in files)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("strongroom_nobody_wrote_this", "not installed"),
        ("sys", "interpreter"),
        ("strongroom_unspecified", "not installed"),
    ],
)
def test_refuses_what_has_no_files(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "strongroom_unspecified", ModuleType("strongroom_unspecified"))
    with pytest.raises(ConfigurationError, match=text) as refusal:
        find_package_code((name,))
    assert refusal.value.code == "workload.package"


def test_refuses_namespace_package(site: Path) -> None:
    name = f"strongroom_sample_{next(_numbers)}"
    (site / name).mkdir()
    with pytest.raises(ConfigurationError, match="namespace") as refusal:
        find_package_code((name,))
    assert refusal.value.code == "workload.package"


def test_refuses_link_inside_package(package: Path) -> None:
    (package / "more.py").symlink_to("/etc/hosts")
    with pytest.raises(ConfigurationError, match="link"):
        find_package_code((package.name,))
