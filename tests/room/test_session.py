"""Entering the room with a real broker, and everything that must keep one out."""

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.errors import (
    ConfigurationError,
    KeyReleaseError,
    MissingFile,
    PolicyRejected,
    StrongroomError,
    UnavailableError,
    WouldOverwrite,
    WrongKey,
    WrongPath,
)
from strongroom.room import BrokerAddress, enter_room
from strongroom.room.files import create_sealed, open_sealed

if TYPE_CHECKING:
    World = Any
    ChangeCode = Any

DATA_KEY = b"data-key-16bytes"
OUT_KEY = b"outs-key-16bytes"


def seal(world: "World", path: str, content: bytes, key: bytes = DATA_KEY) -> None:
    target = world.storage / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with create_sealed(target, key, sealed_path=path) as file:
        file.write(content)


def test_an_authorized_workload_reads_and_writes_sealed_files(authorized: "World") -> None:
    seal(authorized, "data/in.csv", b"a,b\n1,2\n")
    with authorized.enter() as room:
        assert room.identity.simulated
        assert room.key("data") == DATA_KEY
        with room.open("data/in.csv") as file:
            content = file.read()
        with room.create("out/deep/result.txt") as sink:
            sink.write(content.upper())
        assert room.exists("out/deep/result.txt")
    raw = (authorized.storage / "out/deep/result.txt").read_bytes()
    assert b"A,B" not in raw
    with open_sealed(authorized.storage / "out/deep/result.txt", OUT_KEY, sealed_path="out/deep/result.txt") as file:
        assert file.read() == b"A,B\n1,2\n"


def test_nothing_is_granted_by_default(world: "World") -> None:
    with pytest.raises(PolicyRejected) as refusal:
        world.enter()
    assert refusal.value.findings
    assert refusal.value.hint


def test_changed_code_is_refused_and_the_finding_says_so(authorized: "World", change_code: "ChangeCode") -> None:
    change_code()
    with pytest.raises(PolicyRejected) as refusal:
        authorized.enter()
    assert [finding.code for finding in refusal.value.findings] == ["measurement.mr_enclave"]


def test_a_revoked_grant_counts_at_once(authorized: "World") -> None:
    authorized.enter().close()
    authorized.parts.grants.revoke("hello", dt.datetime.now(dt.UTC))
    with pytest.raises(PolicyRejected):
        authorized.enter()


def test_a_grant_for_hardware_refuses_the_simulated_platform(world: "World") -> None:
    world.authorize(simulated=False)
    with pytest.raises(PolicyRejected) as refusal:
        world.enter()
    assert "simulated.refused" in [finding.code for finding in refusal.value.findings]


def test_a_key_outside_the_grant_is_refused_and_none_is_kept(world: "World") -> None:
    world.authorize(keys=("data",))
    with pytest.raises((PolicyRejected, KeyReleaseError)):
        world.enter()


def test_a_broker_of_another_authority_is_not_believed(authorized: "World", tmp_path: Path) -> None:
    from strongroom.broker.setup import create_broker

    other = create_broker(tmp_path / "other", now=dt.datetime.now(dt.UTC))
    address = BrokerAddress(authorized.address.url, other.ca_certificate)
    with pytest.raises(UnavailableError) as refusal:
        enter_room(authorized.platform(), address, authorized.workload, authorized.storage)
    assert refusal.value.code == "broker.unreachable"


def test_a_proxy_in_the_environment_is_ignored(authorized: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    authorized.enter().close()


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "https://",
        "localhost:8443",
        "https://u:p@h",
        "https://h/path",
        "https://h?q",
        "ftp://h",
        "https://[::1",
        "",
    ],
)
def test_refuses_an_address_that_is_not_bare_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        BrokerAddress(url, tmp_path / "ca.pem")


def test_a_missing_ca_is_an_error_not_a_fallback(authorized: "World", tmp_path: Path) -> None:
    address = BrokerAddress(authorized.address.url, tmp_path / "no.pem")
    with pytest.raises(ConfigurationError) as refusal:
        enter_room(authorized.platform(), address, authorized.workload, authorized.storage)
    assert refusal.value.code == "broker.ca"


@pytest.mark.parametrize(
    "path", ["../secret", "data/../../secret", "/etc/passwd", "", "data/\0x", "elsewhere/file", "."]
)
def test_nothing_outside_the_mounts_can_be_reached(authorized: "World", path: str) -> None:
    with authorized.enter() as room:
        for reach in (room.open, room.create):
            with pytest.raises(ConfigurationError):
                reach(path)


def test_a_lock_is_an_empty_file_in_a_writable_folder(authorized: "World") -> None:
    with authorized.enter() as room:
        with room.lock("out/models/loan"):
            assert (authorized.storage / "out/models/loan/.lock").read_bytes() == b""
        for folder, code in (("data", "room.read_only"), ("../out", "room.path")):
            with pytest.raises(ConfigurationError) as refusal:
                room.lock(folder)
            assert refusal.value.code == code


def test_a_read_only_mount_takes_no_file(authorized: "World") -> None:
    with authorized.enter() as room, pytest.raises(ConfigurationError) as refusal:
        room.create("data/new.csv")
    assert refusal.value.code == "room.read_only"


def test_a_file_moved_to_another_place_does_not_open(authorized: "World") -> None:
    seal(authorized, "data/in.csv", b"x")
    (authorized.storage / "data/in.csv").rename(authorized.storage / "data/other.csv")
    with authorized.enter() as room, pytest.raises(WrongPath):
        room.open("data/other.csv")


def test_a_file_of_another_mount_does_not_open(authorized: "World") -> None:
    seal(authorized, "data/in.csv", b"x", key=OUT_KEY)
    with authorized.enter() as room, pytest.raises(WrongKey):
        room.open("data/in.csv")


def test_a_missing_file_is_a_file_not_found_error_too(authorized: "World") -> None:
    with authorized.enter() as room, pytest.raises(FileNotFoundError) as refusal:
        room.open("data/none.csv")
    assert isinstance(refusal.value, MissingFile)


def test_an_interrupted_write_leaves_the_earlier_file(authorized: "World") -> None:
    with authorized.enter() as room:
        with room.create("out/a") as sink:
            sink.write(b"first")
        with pytest.raises(RuntimeError), room.create("out/a") as sink:
            sink.write(b"second")
            raise RuntimeError
        with room.open("out/a") as file:
            assert file.read() == b"first"
    assert [path.name for path in (authorized.storage / "out").iterdir()] == ["a"]


def test_refuses_to_replace_when_told_so(authorized: "World") -> None:
    with authorized.enter() as room:
        room.create("out/a").close()
        with pytest.raises(WouldOverwrite):
            room.create("out/a", overwrite=False)


@pytest.mark.parametrize("link", ["out", "out/deep"])
def test_a_link_the_host_planted_leads_no_file_out_of_the_storage(
    authorized: "World", tmp_path: Path, link: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.txt").write_text("not of the storage")
    planted = authorized.storage / link
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(elsewhere)
    with authorized.enter() as room:
        for path in (f"{link}/result.txt", f"{link}/new/result.txt"):
            with pytest.raises(ConfigurationError) as refusal:
                room.create(path)
            assert refusal.value.code == "room.link"
    assert [file.name for file in elsewhere.iterdir()] == ["result.txt"]
    assert (elsewhere / "result.txt").read_text() == "not of the storage"


def test_a_link_within_the_storage_is_the_hosts_business(authorized: "World") -> None:
    (authorized.storage / "disk2").mkdir(parents=True)
    (authorized.storage / "out").symlink_to("disk2")
    with authorized.enter() as room:
        room.create("out/a").close()
    assert (authorized.storage / "disk2" / "a").is_file()


def test_a_loop_of_links_is_an_error_of_ours(authorized: "World") -> None:
    authorized.storage.mkdir(parents=True, exist_ok=True)
    (authorized.storage / "out").symlink_to("out")
    with authorized.enter() as room, pytest.raises(StrongroomError):
        room.create("out/a")


def test_a_file_in_the_place_of_a_folder_is_an_error_of_ours(authorized: "World") -> None:
    authorized.storage.mkdir(parents=True, exist_ok=True)
    (authorized.storage / "out").write_text("no folder")
    with authorized.enter() as room:
        for path in ("out/a", "out/deep/a"):
            with pytest.raises(ConfigurationError) as refusal:
                room.create(path)
            assert refusal.value.code == "file.not_folder"


def test_a_closed_room_has_no_keys(authorized: "World") -> None:
    room = authorized.enter()
    held = room._keys["data"]
    room.close()
    assert bytes(held) == bytes(16)
    with pytest.raises(ConfigurationError):
        room.key("data")


def test_no_key_shows_in_any_text(authorized: "World", caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    seal(authorized, "data/in.csv", b"x", key=OUT_KEY)
    texts = []
    with authorized.enter() as room:
        texts += [repr(room), str(vars(room.identity) if hasattr(room.identity, "__dict__") else room.identity)]
        try:
            room.open("data/in.csv")
        except StrongroomError as error:
            texts += [repr(error), str(error), str(error.hint)]
    joined = "".join(texts) + caplog.text
    for key in (DATA_KEY, OUT_KEY):
        assert key.decode() not in joined
        assert key.hex() not in joined
