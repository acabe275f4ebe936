"""The measurement changes with every byte of code and every field, and with nothing else."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigurationError
from strongroom.workload import Measurement, Workload, measure
from strongroom.workload.definition import parse_workload
from strongroom.workload.measure import definition

Read = Callable[[dict[str, Any]], Workload]


@pytest.fixture
def workload(read: Read, document: dict[str, Any]) -> Workload:
    return read(document)


@pytest.fixture
def before(workload: Workload) -> Measurement:
    return measure(workload)


def test_digests_are_of_the_files(workload: Workload, before: Measurement) -> None:
    assert list(before.files) == ["file:lib/a.py", "file:lib/deep/b.json", "file:train.py"]
    assert before.files["file:lib/a.py"] == hashlib.sha256(b"A = 1\n").digest()
    assert len(before.mr_enclave) == len(before.workload_digest) == 32


def test_is_sha256_over_canonical_json(workload: Workload, before: Measurement) -> None:
    # Written out once more with the standard library: for this data RFC 8785 is sorted names and no white space.
    whole = {
        "type": "strongroom.simulated-measurement.v1",
        "workload": definition(workload),
        "files": {name: digest.hex() for name, digest in before.files.items()},
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert before.mr_enclave == hashlib.sha256(text.encode()).digest()


def test_same_workload_same_measurement(workload: Workload, before: Measurement) -> None:
    assert measure(workload) == before


@pytest.mark.parametrize("name", ["train.py", "lib/a.py", "lib/deep/b.json"])
def test_one_changed_byte_changes_it(workload: Workload, before: Measurement, folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    after = measure(workload)
    assert after.mr_enclave != before.mr_enclave
    assert after.workload_digest == before.workload_digest


def test_appended_byte_changes_it(workload: Workload, before: Measurement, folder: Path) -> None:
    with (folder / "train.py").open("a") as file:
        file.write("\n")
    assert measure(workload).mr_enclave != before.mr_enclave


def test_renamed_file_changes_it(workload: Workload, before: Measurement, folder: Path) -> None:
    (folder / "lib" / "a.py").rename(folder / "lib" / "c.py")
    assert measure(workload).mr_enclave != before.mr_enclave


def test_swapped_files_change_it(workload: Workload, before: Measurement, folder: Path) -> None:
    one, other = folder / "train.py", folder / "lib" / "a.py"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert measure(workload).mr_enclave != before.mr_enclave


def test_planted_file_in_a_trusted_folder_changes_it(workload: Workload, before: Measurement, folder: Path) -> None:
    (folder / "lib" / "deep" / ".hidden").write_text("")
    assert measure(workload).mr_enclave != before.mr_enclave


def test_bytecode_and_untrusted_files_do_not_change_it(workload: Workload, before: Measurement, folder: Path) -> None:
    (folder / "lib" / "__pycache__").mkdir()
    (folder / "lib" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (folder / "notes.txt").write_text("")
    assert measure(workload) == before


CHANGES: list[dict[str, Any]] = [
    {"name": "loan-traim"},
    {"command": ["python3", "train.py", "--rounds", "51"]},
    {"command": ["python3", "--rounds", "train.py", "50"]},
    {"command": ["python3", "train.py", "--rounds 50"]},
    {"product_id": 8},
    {"security_version": 4},
    {"trusted_files": ["train.py", "lib/*.py", "lib/deep"]},
    {"packages": ["this"]},
    {"environment": {"OMP_NUM_THREADS": "3", "LANG": "C"}},
    {"environment": {"OMP_NUM_THREADS": "2"}},
    {"environment": {"OMP_NUM_THREADS": "2", "LANG": "C", "LD_PRELOAD": "x.so"}},
    {"keys": {"book": "loan/key/other", "model": "loan/key/model"}},
    {"keys": {"book": "loan/key/book", "model": "loan/key/model", "more": "loan/key/more"}},
    {"mounts": [{"path": "data/book", "key": "book", "mode": "read"}]},
    {
        "mounts": [
            {"path": "data/book", "key": "book", "mode": "read-write"},
            {"path": "models", "key": "model", "mode": "read-write"},
        ]
    },
    {
        "mounts": [
            {"path": "data/book", "key": "model", "mode": "read"},
            {"path": "models", "key": "book", "mode": "read-write"},
        ]
    },
    {"resources": {"memory": "2GiB", "cpus": 2, "epc": "512MiB", "threads": 9}},
    {"resources": {"memory": "2049MiB", "cpus": 2, "epc": "512MiB", "threads": 8}},
    {"resources": {"memory": "2GiB", "cpus": 3, "epc": "512MiB", "threads": 8}},
    {"resources": {"memory": "2GiB", "cpus": 2, "epc": "513MiB", "threads": 8}},
    {"insecure_host_arguments": True},
    {"broker_ca": "train.py"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_field_counts(read: Read, document: dict[str, Any], before: Measurement, change: dict[str, Any]) -> None:
    after = measure(read({**document, **change}))
    assert after.mr_enclave != before.mr_enclave
    assert after.workload_digest != before.workload_digest


def test_changes_cover_every_field_but_the_file() -> None:
    assert {name for change in CHANGES for name in change} == set(Workload.__dataclass_fields__) - {"file"}


def test_definition_holds_every_field_but_the_file(workload: Workload) -> None:
    assert set(definition(workload)) - {"type"} == set(Workload.__dataclass_fields__) - {"file"}  # type: ignore[arg-type]  # it is a mapping


def test_spelling_does_not_change_it(workload: Workload, before: Measurement, folder: Path) -> None:
    text = """
    # The same workload, written by another hand.
    security_version = 0x3
    product_id = 7
    command = [
        "python3",  # comment
        'train.py', "--rounds", "\\u0035\\u0030",
    ]
    trusted_files = ["lib/", "train.py"]
    name = "loan-train"
    insecure_host_arguments = false
    resources.threads = 8
    resources.epc = "512MiB"
    resources.cpus = 2
    resources.memory = "2048MiB"

    [[mounts]]
    mode = "read-write"
    key = "model"
    path = "models"

    [[mounts]]
    path = "data/book"
    key = "book"
    mode = "read"

    [keys]
    model = "loan/key/model"
    book = "loan/key/book"

    [environment]
    LANG = "C"
    OMP_NUM_THREADS = "2"
    """
    assert measure(parse_workload(text, folder=folder)) == before


def test_place_does_not_change_it(workload: Workload, before: Measurement, tmp_path: Path) -> None:
    other = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(other)
    assert measure(replace(workload, file=other / "job.toml")) == before


@pytest.mark.parametrize("pattern", ["absent.py", "*.txt", "lib/*.json", "lib/a.py/x", "**/none.py", "lib/**/x"])
def test_refuses_pattern_that_names_nothing(read: Read, document: dict[str, Any], pattern: str) -> None:
    _refused(read({**document, "trusted_files": [pattern]}))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.py", ["train.py"]),
        ("lib/*", ["lib/a.py", "lib/deep/b.json"]),
        ("lib/*.py", ["lib/a.py"]),
        ("**/*.py", ["lib/a.py", "train.py"]),
        ("**/deep/*", ["lib/deep/b.json"]),
        ("lib/**", ["lib/a.py", "lib/deep/b.json"]),
        ("**", ["lib/a.py", "lib/deep/b.json", "train.py"]),
        ("lib/**/b.json", ["lib/deep/b.json"]),
        ("l?b/[a-c].py", ["lib/a.py"]),
        ("**/**/*.json", ["lib/deep/b.json"]),
    ],
)
def test_patterns(read: Read, document: dict[str, Any], pattern: str, names: list[str]) -> None:
    files = measure(read({**document, "trusted_files": [pattern]})).files
    assert list(files) == [f"file:{name}" for name in names]


@pytest.mark.parametrize("patterns", [["lib", "lib/a.py"], ["*.py", "train.py"], ["**", "lib/deep"]])
def test_refuses_file_that_two_patterns_name(read: Read, document: dict[str, Any], patterns: list[str]) -> None:
    _refused(read({**document, "trusted_files": patterns}), "another entry")


def test_refuses_link_to_file(workload: Workload, folder: Path) -> None:
    (folder / "train.py").rename(folder / "real.py")
    (folder / "train.py").symlink_to("real.py")
    _refused(workload, "link")


def test_refuses_link_in_trusted_folder(workload: Workload, folder: Path) -> None:
    (folder / "lib" / "more").symlink_to("/etc")
    _refused(workload, "link")


def test_refuses_dangling_link(workload: Workload, folder: Path) -> None:
    (folder / "lib" / "more").symlink_to("nowhere")
    _refused(workload, "link")


def test_refuses_path_through_link(read: Read, document: dict[str, Any], folder: Path) -> None:
    (folder / "other").symlink_to("lib")
    _refused(read({**document, "trusted_files": ["other/a.py"]}), "link")


@pytest.mark.parametrize("pattern", ["**", "**/*.py"])
def test_refuses_link_that_a_search_would_have_to_follow(
    read: Read, document: dict[str, Any], folder: Path, pattern: str
) -> None:
    (folder / "lib" / "deep" / "up").symlink_to("..")
    _refused(read({**document, "trusted_files": [pattern]}), "link")


def test_link_that_no_pattern_touches_is_left_alone(read: Read, document: dict[str, Any], folder: Path) -> None:
    (folder / "data").symlink_to("/nowhere")
    assert len(measure(read({**document, "trusted_files": ["*.py", "lib"]})).files) == 3


def test_refuses_pipe_without_waiting_for_a_writer(workload: Workload, folder: Path) -> None:
    os.mkfifo(folder / "lib" / "pipe")
    _refused(workload, "neither a file nor a folder")


def test_refuses_file_name_that_is_not_unicode(workload: Workload, folder: Path) -> None:
    (folder / "lib" / os.fsdecode(b"\xff.py")).write_text("")
    with pytest.raises(ConfigurationError) as refusal:
        measure(workload)
    assert refusal.value.code == "workload.file_name"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_refuses_unreadable_file(workload: Workload, folder: Path) -> None:
    (folder / "train.py").chmod(0)
    _refused(workload, "can't read")


def test_refuses_folder_that_is_gone(workload: Workload, tmp_path: Path) -> None:
    _refused(replace(workload, file=tmp_path / "absent" / "job.toml"), "can't read")


def _refused(workload: Workload, text: str = "") -> None:
    with pytest.raises(ConfigurationError) as refusal:
        measure(workload)
    assert refusal.value.code == "workload.trusted_files"
    assert text in str(refusal.value)
