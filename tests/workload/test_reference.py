"""The worked example of docs/reference/workload.md is true, and the page names every field."""

import hashlib
import re
from pathlib import Path

import pytest

from strongroom.workload import load_workload, measure
from strongroom.workload.definition import Resources, Workload

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "workload.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def block(page: str, language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def value(page: str, name: str) -> str:
    found = re.findall(rf"^    {name} +([0-9a-f]{{64}})$", page, re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def test_worked_example(page: str, tmp_path: Path) -> None:
    (tmp_path / "score.toml").write_text(block(page, "toml"))
    (tmp_path / "score.py").write_text(block(page, "python"))
    measurement = measure(load_workload(tmp_path / "score.toml"))
    assert measurement.mr_enclave.hex() == value(page, "mr_enclave")
    assert measurement.workload_digest.hex() == value(page, "workload_digest")


def test_printed_text_has_the_printed_digest(page: str) -> None:
    text = block(page, "json").removesuffix("\n")
    assert "\n" not in text
    assert hashlib.sha256(text.encode()).hexdigest() == value(page, "mr_enclave")
    inner = re.search(r'"workload":(\{.*\})\}$', text)
    assert inner is not None
    assert hashlib.sha256(inner[1].encode()).hexdigest() == value(page, "workload_digest")


def test_every_field_is_described(page: str) -> None:
    described = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE))
    fields = (set(Workload.__dataclass_fields__) - {"file", "resources"}) | {
        "resources." + name.removesuffix("_mib") for name in Resources.__dataclass_fields__
    }
    assert described == fields | {"mounts.path", "mounts.key", "mounts.mode"}
