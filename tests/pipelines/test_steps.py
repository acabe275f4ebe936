"""What runs outside the room: it lays out sealed artifacts, starts the workload, and believes nothing it says."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError, StrongroomError, WouldOverwrite
from strongroom.pipelines import steps
from strongroom.pipelines.prepare import STEP_NAMES, prepare_workloads
from strongroom.pipelines.published import parse_published, publish, whole_number
from strongroom.pipelines.sources import Source, load_sources
from strongroom.room.files import create_sealed, open_sealed
from strongroom.workload import load_workload, measure

KEY = b"SIXTEEN-BYTE-KEY"


@pytest.fixture
def enclave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`gramine-sgx` on the path is a Python script that a test writes."""
    program = tmp_path / "bin" / "gramine-sgx"
    program.parent.mkdir()
    (tmp_path / "enclaves" / "train").mkdir(parents=True)
    (tmp_path / "enclaves" / "train" / "train.manifest.sgx").write_text("signed")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "room.toml").write_text("url")
    monkeypatch.setenv("STRONGROOM_ROOM", str(tmp_path / "room"))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STRONGROOM_PIPELINE_ENCLAVES", str(tmp_path / "enclaves"))
    return program


def script(program: Path, body: str) -> None:
    program.write_text(f"#!{sys.executable}\nimport json, os, sys, pathlib\nstorage = pathlib.Path()\n{body}\n")
    program.chmod(0o755)


SEAL = (
    "from strongroom.room.files import create_sealed\n"
    "with create_sealed(storage / 'model', b'SIXTEEN-BYTE-KEY', sealed_path='model') as out:\n"
    "    out.write((storage / 'data').read_bytes()[::-1])\n"
    "print('{\"rows\": 3}')"
)


def test_inputs_go_in_outputs_come_out_sealed(enclave: Path, tmp_path: Path) -> None:
    script(enclave, SEAL)
    (tmp_path / "in").write_bytes(b"abc")
    said = steps.run_step("train", {"data": str(tmp_path / "in")}, {"model": str(tmp_path / "out" / "model")})
    assert said == {"rows": 3}
    with open_sealed(tmp_path / "out" / "model", KEY, sealed_path="model") as file:
        assert file.read() == b"cba"


def test_an_enclave_finds_itself_the_room_and_its_inputs_where_it_starts(enclave: Path, tmp_path: Path) -> None:
    script(
        enclave,
        "files = [str(path) for path in sorted(storage.rglob('*')) if path.is_file()]\n"
        "print(json.dumps({'files': ' '.join(files), 'argv': ' '.join(sys.argv[1:]),"
        " 'said': ' '.join(os.environ['STRONGROOM_' + name] for name in ('WORKLOAD', 'ROOM', 'STORAGE'))}))",
    )
    (tmp_path / "in").write_bytes(b"abc")
    assert steps.run_step("train", {"data": str(tmp_path / "in")}, {}, ("7",)) == {
        "files": "data room/room.toml train.manifest.sgx",
        "argv": "train",
        "said": "/work/workload.toml /room /work",
    }


def test_an_enclave_s_command_stays_and_its_arguments_come_beside_it(enclave: Path) -> None:
    script(
        enclave,
        "print(json.dumps({'argv': ' '.join(sys.argv[1:]), 'added': os.environ['STRONGROOM_ARGUMENTS']}))",
    )
    assert steps.run_step("train", {}, {}, ("-c", "1000")) == {
        "argv": "train",
        "added": '{"arguments": ["-c", "1000"]}',
    }


def test_an_enclave_that_is_not_there_is_said(enclave: Path) -> None:
    script(enclave, "raise SystemExit('must not run')")
    with pytest.raises(ConfigurationError, match="enclave"):
        steps.run_step("absent", {}, {})


def test_plaintext_is_not_handed_to_the_artifact_store(enclave: Path, tmp_path: Path) -> None:
    script(enclave, "(storage / 'model').write_bytes(b'person_age,person_income' * 1000); print('{}')")
    with pytest.raises(FormatError):
        steps.run_step("train", {}, {"model": str(tmp_path / "model")})
    assert not (tmp_path / "model").exists()


def test_an_output_that_was_not_made_is_an_error(enclave: Path, tmp_path: Path) -> None:
    script(enclave, "print('{}')")
    with pytest.raises(StrongroomError):
        steps.run_step("train", {}, {"model": str(tmp_path / "model")})


def test_a_refused_step_fails_and_says_its_status(enclave: Path) -> None:
    script(enclave, "sys.exit(4)")
    with pytest.raises(StrongroomError, match="status 4"):
        steps.run_step("train", {}, {})


def test_a_step_that_crashes_is_told_from_one_that_was_refused(enclave: Path) -> None:
    script(enclave, "os.abort()")
    with pytest.raises(StrongroomError, match="train was ended by Aborted"):
        steps.run_step("train", {}, {})


@pytest.mark.parametrize("said", ["", "[]", "{", '{"a": NaN}', '{"a": {}}', '{"a": [true]}', "x" * 400_000])
def test_a_step_that_says_something_else_fails(enclave: Path, said: str) -> None:
    script(enclave, f"sys.stdout.write({said[:1]!r} * {len(said)})" if len(said) > 100 else f"print({said!r})")
    with pytest.raises(StrongroomError):
        steps.run_step("train", {}, {})


def test_nothing_stays_on_the_disk(enclave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(enclave, SEAL)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "in").write_bytes(b"abc")
    steps.run_step("train", {"data": str(tmp_path / "in")}, {"model": str(tmp_path / "model")})
    assert not list((tmp_path / "tmp").iterdir())


def test_a_missing_input_is_said_before_anything_runs(enclave: Path, tmp_path: Path) -> None:
    script(enclave, "raise SystemExit('must not run')")
    with pytest.raises(ConfigurationError, match="data"):
        steps.run_step("train", {"data": str(tmp_path / "absent")}, {})


def test_a_sealed_source_needs_the_folder_of_sources(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="STRONGROOM_PIPELINE_SOURCES"):
        steps.load_data("sealed:loans.csv", str(tmp_path / "out"))


@pytest.mark.parametrize("url", ["sealed:../broker/admin.key", "sealed:/etc/passwd"])
def test_a_sealed_source_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("STRONGROOM_PIPELINE_SOURCES", str(tmp_path))
    with pytest.raises(ConfigurationError):
        steps.load_data(url, str(tmp_path / "out"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_published_values_or_refused(raw: bytes) -> None:
    try:
        parse_published(raw)
    except FormatError:
        return


@given(
    st.dictionaries(
        st.text(max_size=10),
        st.floats(-1e9, 1e9) | st.integers(-(2**40), 2**40) | st.text(max_size=20) | st.lists(st.floats(0, 1)),
        max_size=5,
    )
)
@settings(max_examples=50, deadline=None)
def test_what_is_published_is_read_back(values: dict[str, object]) -> None:
    assert parse_published(json.dumps(values).encode()) == values


def test_publish_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    publish({"rows": 3})
    assert capsys.readouterr().out == '{"rows": 3}\n'
    with pytest.raises(ValueError, match="JSON"):
        publish({"rows": float("nan")})


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1_000", " 1", "٣", "9" * 20])
def test_a_size_is_a_whole_number(text: str) -> None:
    with pytest.raises(ConfigurationError):
        whole_number(text)
    assert whole_number("32581") == 32581


def test_prepared_steps_are_pinned_to_the_broker_and_its_sources(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("one authority")
    source = Source("https://data.example.com/loans.csv", "0" * 64)
    prepare_workloads(tmp_path / "steps", tmp_path / "ca.pem", [source])
    for name in STEP_NAMES:
        workload = load_workload(tmp_path / "steps" / name / "workload.toml")
        assert workload.broker_ca == "ca.pem"
        assert (workload.folder / "ca.pem").read_text() == "one authority"
    assert load_sources(tmp_path / "steps" / "load-data" / "sources.toml") == (source,)


def test_another_source_gives_another_measurement(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("one authority")
    found = []
    for number, sources in enumerate(([], [Source("https://data.example.com/")])):
        prepare_workloads(tmp_path / str(number), tmp_path / "ca.pem", sources)
        found.append(measure(load_workload(tmp_path / str(number) / "load-data" / "workload.toml")).mr_enclave)
    assert found[0] != found[1]


def test_prepared_steps_overwrite_nothing(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    with pytest.raises(WouldOverwrite):
        prepare_workloads(tmp_path, tmp_path / "ca.pem")
    with pytest.raises(ConfigurationError):
        prepare_workloads(tmp_path / "new", tmp_path / "absent.pem")


def test_only_steps_with_inputs_from_outside_take_arguments() -> None:
    takes = {
        name for name in STEP_NAMES if load_workload(steps.WORKLOADS / name / "workload.toml").insecure_host_arguments
    }
    assert takes == {"load-data", "create-train-test-set"}


def test_product_ids_are_distinct() -> None:
    numbers = [load_workload(steps.WORKLOADS / name / "workload.toml").product_id for name in STEP_NAMES]
    assert len(set(numbers)) == len(STEP_NAMES)


def test_a_sealed_file_can_be_made_for_these_tests(tmp_path: Path) -> None:
    with create_sealed(tmp_path / "a", KEY, sealed_path="a") as file:
        file.write(b"x")
    shutil.copyfile(tmp_path / "a", tmp_path / "b")
    with open_sealed(tmp_path / "b", KEY, sealed_path="a") as file:
        assert file.read() == b"x"
