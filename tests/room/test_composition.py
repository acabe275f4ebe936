"""Settings of a process inside the room, and which broker and platform they lead to."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import strongroom
from strongroom import composition
from strongroom.broker.setup import create_broker
from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.workload import load_workload

if TYPE_CHECKING:
    World = Any


@pytest.fixture
def room_folder(world: "World", tmp_path: Path) -> Path:
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "room.toml").write_text(f'url = "{world.address.url}"\n')
    (folder / "ca.pem").write_bytes(world.address.ca_file.read_bytes())
    return folder


@pytest.fixture
def environment(
    authorized: "World", room_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    machine = tmp_path / "machine"
    type(authorized.machine).create(machine, authorized.machine.created)
    for name, value in {
        "WORKLOAD": authorized.workload.folder / "hello.toml",
        "ROOM": room_folder,
        "STORAGE": authorized.storage,
        "PLATFORM": "simulated",
        "SIMULATED_MACHINE": machine,
    }.items():
        monkeypatch.setenv(f"STRONGROOM_{name}", str(value))
    monkeypatch.setattr("sys.excepthook", None)  # `enter` sets it; the test must not keep that
    return monkeypatch


def test_another_simulated_machine_is_not_the_one_the_broker_trusts(environment: pytest.MonkeyPatch) -> None:
    from strongroom.errors import KeyReleaseError

    with pytest.raises(KeyReleaseError):
        strongroom.enter()


def test_the_machine_the_broker_trusts_is_let_in(
    environment: pytest.MonkeyPatch, authorized: "World", capsys: pytest.CaptureFixture[str]
) -> None:
    from strongroom.platforms.simulated import SimulatedMachine

    environment.setattr(SimulatedMachine, "load", classmethod(lambda _, folder: authorized.machine))
    with strongroom.enter() as room:
        assert room.identity.workload == "hello"
    assert "simulated" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["WORKLOAD", "ROOM"])
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(f"STRONGROOM_{name}")
    with pytest.raises(ConfigurationError) as refusal:
        strongroom.enter()
    assert f"STRONGROOM_{name}" in refusal.value.message


def test_the_simulated_platform_is_never_a_fallback(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("STRONGROOM_PLATFORM")
    with pytest.raises(ConfigurationError) as refusal:
        strongroom.enter()
    assert refusal.value.code == "platform.none"


def test_the_simulated_platform_needs_its_machine(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("STRONGROOM_SIMULATED_MACHINE")
    with pytest.raises(ConfigurationError) as refusal:
        strongroom.enter()
    assert refusal.value.code == "platform.simulated_machine"


@pytest.mark.parametrize("text", ["", "url = 5", 'url = "https://a"\nextra = 1', "not toml", 'url = "http://a"'])
def test_a_malformed_room_folder_is_refused(environment: pytest.MonkeyPatch, room_folder: Path, text: str) -> None:
    (room_folder / "room.toml").write_text(text)
    with pytest.raises(ConfigurationError):
        strongroom.enter()


def test_a_host_cannot_bring_its_own_broker_to_a_workload_that_measures_its_ca(
    environment: pytest.MonkeyPatch, authorized: "World", room_folder: Path
) -> None:
    folder = authorized.workload.folder
    # The owner measured another CA than the one of the broker that the host's room folder names and vouches for.
    other = create_broker(room_folder.parent / "other", now=dt.datetime.now(dt.UTC))
    (folder / "ca.pem").write_bytes(other.ca_certificate.read_bytes())
    definition = (folder / "hello.toml").read_text()
    measured = definition.replace(
        'trusted_files = ["hello.py"]', 'trusted_files = ["ca.pem", "hello.py"]\nbroker_ca = "ca.pem"'
    )
    (folder / "hello.toml").write_text(measured)
    with pytest.raises(UnavailableError) as refusal:
        strongroom.enter()
    assert refusal.value.code == "broker.unreachable"
    assert composition.broker_address(room_folder, load_workload(folder / "hello.toml")).ca_file == folder / "ca.pem"
