"""A machine's folder: what it holds, who may read it, and what is refused."""

import datetime as dt
import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.platforms.simulated.folder import COLLATERAL, ROOT_DER, read_trust


@pytest.fixture
def folder(tmp_path: Path, now: dt.datetime) -> Path:
    SimulatedMachine.create(tmp_path / "new" / "machine", now)
    return tmp_path / "new" / "machine"


def test_loaded_machine_is_the_created_one(tmp_path: Path, now: dt.datetime, judge: Any) -> None:
    created = SimulatedMachine.create(tmp_path / "machine", now)
    loaded = SimulatedMachine.load(tmp_path / "machine")
    assert (loaded.root_der, loaded.facts, loaded.created) == (created.root_der, created.facts, created.created)
    assert loaded.created == now
    assert loaded.collateral() == created.collateral() == loaded.collateral()
    quote = loaded.platform(mr_enclave=bytes(32), isv_prod_id=0, isv_svn=0).quote(bytes(64))
    assert judge(quote, collateral=created.collateral(), root=created.root_der)


def test_every_file_says_simulated(folder: Path) -> None:
    names = [path.name for path in folder.iterdir()]
    assert len(names) == 12
    assert all(name.startswith("SIMULATED-") or name == "README.txt" for name in names)
    assert "SIMULATED" in (folder / "README.txt").read_text()


def test_private_keys_are_for_their_owner_only(folder: Path) -> None:
    private = [path for path in folder.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert len(private) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_a_broker_needs_holds_no_private_key(folder: Path) -> None:
    machine = SimulatedMachine.load(folder)
    assert (folder / ROOT_DER).read_bytes() == machine.root_der
    assert (folder / COLLATERAL).read_text() == machine.collateral()
    assert "PRIVATE" not in machine.collateral()


def test_what_a_broker_needs_is_read_without_the_private_keys(folder: Path) -> None:
    machine = SimulatedMachine.load(folder)
    for path in set(folder.iterdir()) - {folder / ROOT_DER, folder / COLLATERAL}:
        path.unlink()
    assert read_trust(folder) == (machine.root_der, machine.collateral())


@pytest.mark.parametrize("name", [ROOT_DER, COLLATERAL])
@pytest.mark.parametrize("content", [None, b"", b"\xff", b"x" * (64 * 1024 + 1)])
def test_trust_refuses_a_missing_or_malformed_file(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ConfigurationError) as refusal:
        read_trust(folder)
    assert refusal.value.code == "simulated.folder"


def test_refuses_to_overwrite(folder: Path, now: dt.datetime) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(WouldOverwrite) as refusal:
        SimulatedMachine.create(folder, now)
    assert refusal.value.code == "simulated.exists"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_refuses_folder_with_anything_in_it(tmp_path: Path, now: dt.datetime) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(WouldOverwrite):
        SimulatedMachine.create(tmp_path, now)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_accepts_an_empty_folder(tmp_path: Path, now: dt.datetime) -> None:
    assert SimulatedMachine.create(tmp_path, now).root_der == SimulatedMachine.load(tmp_path).root_der


def test_refuses_a_file_in_the_way(tmp_path: Path, now: dt.datetime) -> None:
    (tmp_path / "machine").write_text("")
    with pytest.raises(ConfigurationError) as refusal:
        SimulatedMachine.create(tmp_path / "machine", now)
    assert refusal.value.code == "simulated.folder"


def test_load_refuses_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        SimulatedMachine.load(tmp_path / "absent")
    assert refusal.value.code == "simulated.folder"
    assert refusal.value.hint is not None


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff" * 10, b"x" * 100_000])
def test_load_refuses_damaged_file(folder: Path, damage: bytes) -> None:
    for path in sorted(folder.glob("SIMULATED-*")):
        if path.name == ROOT_DER:  # a copy for the broker; not read back
            continue
        content = path.read_bytes()
        path.write_bytes(damage)
        with pytest.raises(ConfigurationError) as refusal:
            SimulatedMachine.load(folder)
        assert refusal.value.code == "simulated.folder", path.name
        path.write_bytes(content)
    SimulatedMachine.load(folder)


def test_load_refuses_key_of_another_certificate(folder: Path) -> None:
    other = (folder / "SIMULATED-pck-ca-key.pem").read_bytes()
    (folder / "SIMULATED-pck-key.pem").write_bytes(other)
    with pytest.raises(ConfigurationError):
        SimulatedMachine.load(folder)


def test_error_does_not_quote_file_contents(folder: Path) -> None:
    (folder / "SIMULATED-pck-key.pem").write_bytes(
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    )
    with pytest.raises(ConfigurationError) as refusal:
        SimulatedMachine.load(folder)
    assert "c2VjcmV0" not in str(refusal.value)


def test_time_without_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        SimulatedMachine.create(tmp_path / "machine", dt.datetime(2026, 11, 21))  # noqa: DTZ001 - the point of the test
    assert refusal.value.code == "simulated.time"
    assert not (tmp_path / "machine").exists()


@pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 128])
def test_report_data_of_another_length_is_refused(platform: SimulatedPlatform, size: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        platform.quote(bytes(size))
    assert refusal.value.code == "platform.report_data"


@pytest.mark.parametrize(
    "change",
    [
        {"mr_enclave": bytes(31)},
        {"mr_enclave": bytes(33)},
        {"mr_signer": b""},
        {"isv_prod_id": 65536},
        {"isv_prod_id": -1},
        {"isv_svn": 65536},
    ],
)
def test_impossible_enclave_is_refused(machine: SimulatedMachine, change: dict[str, Any]) -> None:
    values: dict[str, Any] = {"mr_enclave": bytes(32), "mr_signer": bytes(32), "isv_prod_id": 1, "isv_svn": 1}
    with pytest.raises(ConfigurationError) as refusal:
        machine.platform(**{**values, **change})
    assert refusal.value.code == "simulated.enclave"


def test_platform_says_simulated(platform: SimulatedPlatform) -> None:
    assert (platform.name, platform.tee, platform.simulated) == ("simulated", "sgx", True)


def test_minting_is_cheap(platform: SimulatedPlatform) -> None:
    best = min(_seconds(platform) for _ in range(20))
    assert best < 0.001


def _seconds(platform: SimulatedPlatform) -> float:
    start = time.thread_time()  # not the clock: other work on this machine does not count
    platform.quote(bytes(64))
    return time.thread_time() - start


def test_collateral_is_one_json_object_with_text_documents(machine: SimulatedMachine) -> None:
    parts = json.loads(machine.collateral())
    assert json.loads(parts["tcb_info"])["version"] == 3
    assert json.loads(parts["qe_identity"])["id"] == "QE"
    assert len(bytes.fromhex(parts["tcb_info_signature"])) == 64
