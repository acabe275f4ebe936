"""A small valid workload in a folder, and its definition as a dictionary that tests change one entry of."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from strongroom.workload import Workload
from strongroom.workload.definition import parse_workload

Document = dict[str, Any]

DOCUMENT: Document = {
    "name": "loan-train",
    "command": ["python3", "train.py", "--rounds", "50"],
    "product_id": 7,
    "security_version": 3,
    "trusted_files": ["train.py", "lib"],
    "packages": [],
    "environment": {"OMP_NUM_THREADS": "2", "LANG": "C"},
    "keys": {"book": "loan/key/book", "model": "loan/key/model"},
    "mounts": [
        {"path": "data/book", "key": "book", "mode": "read"},
        {"path": "models", "key": "model", "mode": "read-write"},
    ],
    "resources": {"memory": "2GiB", "cpus": 2, "epc": "512MiB", "threads": 8},
}


def render_toml(document: Mapping[str, Any]) -> str:
    """TOML with every table inline: enough for tests, and independent of the reader."""
    return "\n".join(f"{_key(name)} = {_value(value)}" for name, value in document.items()) + "\n"


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_value(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


@pytest.fixture
def document() -> Document:
    return copy.deepcopy(DOCUMENT)


@pytest.fixture(scope="session")
def toml() -> Callable[[Mapping[str, Any]], str]:
    return render_toml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "train.py").write_text("print('train')\n")
    (tmp_path / "lib" / "a.py").write_text("A = 1\n")
    (tmp_path / "lib" / "deep" / "b.json").write_text("{}\n")
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Callable[[Mapping[str, Any]], Workload]:
    """Reads a document as if it stood in `folder`."""
    return lambda document: parse_workload(render_toml(document), folder=folder)
