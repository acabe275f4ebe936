"""Whatever is in the file: a workload or a ConfigurationError, and nothing ambiguous gets through."""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError
from strongroom.workload import Mount, Workload
from strongroom.workload.definition import parse_workload
from strongroom.workload.measure import definition
from strongroom.workload.paths import check_relative
from strongroom.workload.template import render_template

FOLDER = Path("/nowhere")
TEMPLATE = render_template("loan-train")
FIELDS = [*Workload.__dataclass_fields__, "other"]

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
values = st.recursive(
    st.one_of(text, st.integers(-5, 70_000), st.booleans(), st.sampled_from(["a/b/c", "read", "1GiB", "data", "book"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(text, st.sampled_from(["path", "key", "mode", "memory", "book"])), inner, max_size=3),
    ),
    max_leaves=8,
)
component = st.text("ab-.", min_size=1, max_size=3)


def parse_or_refuse(source: str) -> Workload | None:
    try:
        return parse_workload(source, folder=FOLDER)
    except ConfigurationError as error:
        assert error.code.startswith("workload.")
        return None


@settings(max_examples=200)
@given(source=st.text(max_size=200))
def test_any_text(source: str) -> None:
    parse_or_refuse(source)


@settings(max_examples=200)
@given(start=st.integers(0, len(TEMPLATE)), length=st.integers(0, 30), put=st.text(max_size=10))
def test_damaged_template(start: int, length: int, put: str) -> None:
    parse_or_refuse(TEMPLATE[:start] + put + TEMPLATE[start + length :])


@settings(max_examples=200)
@given(field=st.sampled_from(FIELDS), value=values)
def test_any_value_in_any_field(field: str, value: Any, toml: Callable[[Mapping[str, Any]], str]) -> None:
    document = {
        "name": "a",
        "command": ["x"],
        "product_id": 1,
        "security_version": 1,
        "trusted_files": ["a"],
        "keys": {"book": "a/b/c"},
        field: value,
    }
    workload = parse_or_refuse(toml(document))
    assert workload is None or field != "other"


@settings(max_examples=100)
@given(data=st.data())
def test_order_means_nothing(data: st.DataObject, toml: Callable[[Mapping[str, Any]], str]) -> None:
    paths = data.draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=5))
    mounts = [{"path": path, "key": "k", "mode": "read"} for path in paths]
    document: dict[str, Any] = {
        "name": "a",
        "command": ["x"],
        "product_id": 1,
        "security_version": 1,
        "trusted_files": ["t", *paths],
        "environment": {path.upper(): "1" for path in paths},
        "keys": {"k": "a/b/c", **{f"k{path}": "a/b/c" for path in paths}},
        "mounts": mounts,
    }
    shuffled = {name: document[name] for name in data.draw(st.permutations(list(document)))}
    for name in ("trusted_files", "mounts"):
        shuffled[name] = data.draw(st.permutations(document[name]))
    for name in ("environment", "keys"):
        shuffled[name] = {key: document[name][key] for key in data.draw(st.permutations(list(document[name])))}
    one, other = (parse_workload(toml(each), folder=FOLDER) for each in (document, shuffled))
    assert one == other
    assert definition(one) == definition(other)


@settings(max_examples=200)
@given(path=st.one_of(st.text("a./\\\0\n ", max_size=8), st.text(max_size=8)))
def test_an_accepted_path_stays_inside_and_has_one_spelling(path: str) -> None:
    try:
        check_relative(path, "path")
    except ConfigurationError:
        return
    assert posixpath.normpath(path) == path
    assert str(PurePosixPath(path)) == path
    assert not PurePosixPath(path).is_absolute()
    assert ".." not in PurePosixPath(path).parts


@pytest.fixture(scope="module")
def plain() -> Workload:
    return parse_workload(TEMPLATE, folder=FOLDER)


@settings(max_examples=200)
@given(
    mounts=st.lists(st.lists(component, min_size=1, max_size=3).map("/".join), unique=True, max_size=6),
    path=st.lists(component, min_size=1, max_size=4).map("/".join),
)
def test_longest_mount_wins_by_whole_components(mounts: list[str], path: str, plain: Workload) -> None:
    workload = replace(plain, mounts=tuple(Mount(mount, mount, "read") for mount in mounts))
    if any(part in {".", ".."} for part in path.split("/")):
        with pytest.raises(ConfigurationError):
            workload.key_for(path)
        return
    parts = path.split("/")
    holding = [mount for mount in mounts if parts[: mount.count("/") + 1] == mount.split("/")]
    if holding:
        assert workload.key_for(path) == max(holding, key=lambda mount: mount.count("/"))
    else:
        with pytest.raises(ConfigurationError) as refusal:
            workload.key_for(path)
        assert refusal.value.code == "workload.no_mount"
