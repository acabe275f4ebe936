"""The relay of a node: pods get its evidence and nothing else, and can't keep it from others."""

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.evidence import parse_evidence
from strongroom.platforms import relay
from strongroom.platforms.detect import detect
from strongroom.platforms.relay import RelayPlatform, find_relay, serve_relay

if TYPE_CHECKING:
    from tests.guest_double import AmdDouble, VtpmDouble

REPORT_DATA = bytes(range(64))


class Node:
    """A node with a relay, and what the relay complained about."""

    def __init__(self, path: Path, platform: Any) -> None:
        self.path = path
        self.platform = platform
        self.complaints: list[str] = []
        self.complained = threading.Event()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=serve_relay, args=(path, platform, self.stopped, self.complain))

    def complain(self, text: str) -> None:
        self.complaints.append(text)
        self.complained.set()

    def start(self) -> None:
        self.thread.start()
        while not self.path.is_socket():
            threading.Event().wait(0.01)

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def send(self, request: bytes, *, end: bool = True) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.path))
            connection.sendall(request)
            if end:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer


@pytest.fixture
def node(
    tmp_path_factory: pytest.TempPathFactory, amd: "AmdDouble", vtpm: "VtpmDouble", guest_double: Any
) -> Iterator[Node]:
    path = tmp_path_factory.mktemp("r") / "s"
    running = Node(path, guest_double.GuestPlatform(amd, vtpm))
    running.start()
    yield running
    running.stop()
    assert not path.exists()


def test_a_pod_gets_evidence_about_its_own_report_data(node: Node) -> None:
    platform = find_relay(node.path)
    assert platform == RelayPlatform(node.path, "az-snp-vtpm")
    assert (platform.name, platform.simulated) == ("relay", False)
    assert parse_evidence(platform.quote(REPORT_DATA)).report_data == REPORT_DATA
    assert not node.complaints


def test_pods_are_served_side_by_side(node: Node) -> None:
    said: dict[bytes, bytes] = {}

    def ask(data: bytes) -> None:
        said[data] = parse_evidence(RelayPlatform(node.path, "az-snp-vtpm").quote(data)).report_data

    threads = [threading.Thread(target=ask, args=(bytes((n,)) * 64,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(said) == 6
    assert all(data == answer for data, answer in said.items())


@pytest.mark.parametrize("size", [0, 1, 63, 65, 1000])
def test_requests_of_another_size_get_nothing(node: Node, size: int) -> None:
    try:
        assert node.send(bytes(size)) == b""
    except ConnectionError:  # closed before all of it was read
        pass
    assert node.complained.wait(30)
    assert node.complaints[0].startswith("platform.relay: ")


def test_who_never_ends_the_request_is_dropped(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "REQUEST_S", 0.05)
    with suppress(ConnectionError):  # we may be held up longer than that before we send
        assert node.send(REPORT_DATA, end=False) == b""
    monkeypatch.undo()
    assert find_relay(node.path) is not None


def test_more_than_its_connections_are_closed_at_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "REQUEST_S", 600.0)
    waiting = []
    try:
        for _ in range(relay.MAX_CONNECTIONS):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(node.path))
            waiting.append(connection)
        assert node.send(b"") == b""
        assert node.complained.wait(30)
        assert "more than" in node.complaints[0]
    finally:
        for connection in waiting:
            connection.close()


def test_a_platform_that_fails_gives_no_evidence(node: Node) -> None:
    def fail(report_data: bytes) -> bytes:
        raise UnavailableError("the TPM is gone", code="platform.tpm")

    failing: Any = type("Failing", (), {"quote": staticmethod(fail)})()
    path = node.path.with_name("f")
    broken = Node(path, failing)
    broken.start()
    try:
        with pytest.raises(UnavailableError) as caught:
            find_relay(path)
        assert caught.value.code == "platform.relay"
        assert broken.complained.wait(30)
        assert broken.complaints == ["platform.tpm: the TPM is gone"]
    finally:
        broken.stop()


def lying_relay(path: Path, answer: bytes) -> Callable[[], None]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def answer_once() -> None:
        connection, _ = server.accept()
        with connection, server:
            while connection.recv(4096):
                pass
            try:
                connection.sendall(answer)
            except OSError:
                pass

    thread = threading.Thread(target=answer_once)
    thread.start()
    return lambda: thread.join(30)


@pytest.mark.parametrize("answer", [b"", b"nonsense", bytes(1 << 20)])
def test_a_relay_that_lies_is_unavailable(tmp_path_factory: pytest.TempPathFactory, answer: bytes) -> None:
    path = tmp_path_factory.mktemp("r") / "s"
    finish = lying_relay(path, answer)
    with pytest.raises(UnavailableError) as caught:
        find_relay(path)
    assert caught.value.code == "platform.relay"
    finish()


def test_evidence_about_something_else_is_noticed(tmp_path_factory: pytest.TempPathFactory, amd: "AmdDouble") -> None:
    path = tmp_path_factory.mktemp("r") / "s"
    finish = lying_relay(path, amd.evidence(bytes(64)))
    with pytest.raises(UnavailableError) as caught:
        RelayPlatform(path, "snp").quote(REPORT_DATA)
    assert caught.value.code == "platform.quote"
    finish()


def test_detection_takes_a_socket_and_nothing_else(node: Node, tmp_path: Path) -> None:
    nowhere: Any = {
        "gramine_folder": tmp_path / "a",
        "occlum_device": tmp_path / "b",
        "configfs_root": tmp_path / "c",
        "tpm_device": tmp_path / "d",
    }
    found = detect(**nowhere, relay_socket=node.path)
    assert found is not None
    assert (found.name, found.tee) == ("relay", "az-snp-vtpm")
    assert detect(**nowhere, relay_socket=None) is None
    plain = tmp_path / "file"
    plain.write_text("no socket")
    assert detect(**nowhere, relay_socket=plain) is None


def test_a_link_put_in_the_place_of_the_socket_opens_no_other_file(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("r")
    precious = folder / "precious"
    precious.touch(0o600)
    modes: list[int] = []

    class Raced(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            modes.append(stat.S_IMODE(Path(address).lstat().st_mode))
            Path(address).unlink()
            Path(address).symlink_to(precious)

    monkeypatch.setattr("strongroom.platforms.relay.socket.socket", Raced)
    stopped = threading.Event()
    stopped.set()
    platform: Any = None
    serve_relay(folder / "s", platform, stopped, print, mode=0o666)
    assert stat.S_IMODE(precious.stat().st_mode) == 0o600
    assert modes == [0o666]  # whatever the mask: pods run as users the node does not know


def test_a_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("r")
    stopped = threading.Event()
    stopped.set()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "s"))
    left.close()
    platform: Any = None
    serve_relay(folder / "s", platform, stopped, print)
    assert not list(folder.iterdir())
    (folder / "f").write_text("precious")
    for path in (folder / "f", folder / "absent" / "s"):
        with pytest.raises(ConfigurationError):
            serve_relay(path, platform, stopped, print)
    assert (folder / "f").read_text() == "precious"
