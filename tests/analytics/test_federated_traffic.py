"""XGBoost's own communicator: one model for all, and what happens when somebody is lost, foreign or different."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from strongroom.analytics.federated.certificates import Identity, write_identity
from strongroom.analytics.federated.coordinator import _serve
from strongroom.analytics.federated.federation import Federation
from strongroom.analytics.federated.meeting import meet
from strongroom.analytics.federated.processes import SPAWN
from strongroom.analytics.federated.training import Patience, Trained, train
from strongroom.cli.main import main
from strongroom.cli.trial import free_port
from strongroom.errors import StrongroomError, UnavailableError, VerificationError

xgboost = pytest.importorskip("xgboost")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not xgboost.build_info().get("USE_FEDERATED"),
        reason="xgboost-cpu is built without the federated communicator; install strongroom[federated] instead",
    ),
]
HOST, SECRET = "127.0.0.1", b"s" * 32
PATIENT = Patience(total_s=120, round_s=60)
Answers = dict[int, Trained | StrongroomError]


@pytest.fixture
def identities(tmp_path: Path) -> Callable[..., Identity]:
    def make(name: str, secret: bytes = SECRET) -> Identity:
        folder = tmp_path / name
        folder.mkdir()
        return write_identity(
            folder, secret, datetime.now(UTC), host=HOST if name == "coordinator" else None, name=name
        )

    return make


class Coordinator:
    """XGBoost's federated server for three parties."""

    def __init__(self, identity: Identity) -> None:
        self.port = free_port()
        self.process = SPAWN.Process(target=_serve, args=(3, self.port, tuple(map(str, identity))), daemon=True)
        self.process.start()

    def federation(self, rounds: int = 4, parameters: Mapping[str, str | float] | None = None) -> Federation:
        return Federation(host=HOST, port=self.port, parties=3, rounds=rounds, parameters=parameters or {})


@pytest.fixture
def coordinator(identities: Callable[..., Identity]) -> Iterator[Coordinator]:
    made = Coordinator(identities("coordinator"))
    yield made
    made.process.kill()
    made.process.join()


def rows(rank: int, names: tuple[str, ...] = ("a", "b")) -> Any:
    random = np.random.default_rng(rank)
    columns = {name: random.normal(size=300) for name in names}
    return pa.table({**columns, "label": np.asarray(sum(columns.values()) > 0, np.int64)})


def run(parties: list[Callable[[], Trained]]) -> Answers:
    """Every party in a thread of its own; what each got."""
    answers: Answers = {}

    def one(number: int, party: Callable[[], Trained]) -> None:
        try:
            answers[number] = party()
        except StrongroomError as error:
            answers[number] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_three_processes_train_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "federation"
    arguments = ["federate", "demo", str(folder), "--rows", "3000", "--rounds", "4"]
    monkeypatch.setattr(sys, "argv", ["strongroom", "analytics", *arguments])
    before = set(Path("/dev/shm").iterdir())
    try:
        main()
    except SystemExit as end:
        assert not end.code
    shown = json.loads(capsys.readouterr().out)
    assert shown["same_at_all_parties"] and shown["area_under_curve"] > 0.75
    assert b"tripDistance" not in (folder / "party-0" / "model.sealed").read_bytes()
    for rank in range(3):
        held = {path.name for path in (folder / f"party-{rank}" / "keys").iterdir()}
        assert held == {f"party{rank}", "fl"}  # no party has another's key
    left = [path for path in set(Path("/dev/shm").iterdir()) - before if list(path.glob("private.pem"))]
    assert not left  # private keys are gone, the killed coordinator's too


def test_a_party_of_another_federation_is_refused(
    coordinator: Coordinator, identities: Callable[..., Identity]
) -> None:
    with pytest.raises(VerificationError):
        train(coordinator.federation(), 0, identities("f", b"x" * 32), rows(0), patience=PATIENT)


def test_a_party_with_a_certificate_of_another_federation_is_refused_by_the_coordinator(
    coordinator: Coordinator, identities: Callable[..., Identity]
) -> None:
    """It was given the right authority, which is public, but no certificate under it."""
    ours, foreign = identities("p"), identities("f", b"x" * 32)
    mixed = Identity(ours.authority, foreign.certificate, foreign.private_key)
    meet(HOST, coordinator.port, ours, deadline=time.monotonic() + 60)
    with pytest.raises(VerificationError):
        train(coordinator.federation(), 0, mixed, rows(0), patience=PATIENT)


def test_a_client_without_a_certificate_is_refused(
    coordinator: Coordinator, identities: Callable[..., Identity]
) -> None:
    ours = identities("p")
    meet(HOST, coordinator.port, ours, deadline=time.monotonic() + 60)
    context = ssl.create_default_context(cafile=str(ours.authority))
    context.set_alpn_protocols(["h2"])
    answer = b""
    with socket.create_connection((HOST, coordinator.port), timeout=30) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=HOST) as channel:
                channel.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                answer = channel.recv(1)
        except (ssl.SSLError, ConnectionError):
            pass
    assert answer == b""


def test_a_plaintext_client_is_refused(coordinator: Coordinator, identities: Callable[..., Identity]) -> None:
    meet(HOST, coordinator.port, identities("p"), deadline=time.monotonic() + 60)
    with socket.create_connection((HOST, coordinator.port), timeout=30) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        try:
            answer = plain.recv(100)
        except ConnectionError:
            answer = b""
    settings_frame = answer[3:4] == b"\x04" and len(answer) >= 9
    assert not settings_frame  # nothing of HTTP/2: an alert, or the end


def test_a_lost_party_ends_the_others_in_bounded_time(
    coordinator: Coordinator, identities: Callable[..., Identity]
) -> None:
    patience = Patience(total_s=300, round_s=5)
    lost_at = []

    def lose(number: int) -> None:
        if number == 1:
            lost_at.append(time.monotonic())
            raise UnavailableError("this machine is switched off", code="test.lost")

    federation = coordinator.federation(rounds=10_000)
    answers = run(
        [
            lambda: train(federation, 0, identities("p0"), rows(0), patience=patience),
            lambda: train(federation, 1, identities("p1"), rows(1), patience=patience),
            lambda: train(federation, 2, identities("p2"), rows(2), patience=patience, heard=lose),
        ]
    )
    took = time.monotonic() - lost_at[0]
    assert all(isinstance(answer, UnavailableError) for answer in answers.values())
    assert "lost" in str(answers[0]) and "lost" in str(answers[1])
    assert took < 60


def test_a_lost_coordinator_ends_all(coordinator: Coordinator, identities: Callable[..., Identity]) -> None:
    def lose(number: int) -> None:
        if number == 1:
            coordinator.process.kill()

    federation = coordinator.federation(rounds=10_000)
    made = [identities(f"p{rank}") for rank in range(3)]
    answers = run(
        [
            lambda r=rank: train(  # type: ignore[misc]  # a default binds the loop's variable
                federation, r, made[r], rows(r), patience=Patience(total_s=300, round_s=20), heard=lose
            )
            for rank in range(3)
        ]
    )
    assert all(isinstance(answer, UnavailableError) for answer in answers.values())


def test_a_party_that_never_comes(coordinator: Coordinator, identities: Callable[..., Identity]) -> None:
    with pytest.raises(UnavailableError, match="one is missing"):
        train(coordinator.federation(), 0, identities("p"), rows(0), patience=Patience(total_s=10, round_s=60))


@pytest.mark.parametrize("what", ["features", "parameters", "rounds", "rank"])
def test_parties_that_differ_train_nothing(
    what: str, coordinator: Coordinator, identities: Callable[..., Identity]
) -> None:
    usual = coordinator.federation()
    other = {
        "parameters": coordinator.federation(parameters={"max_depth": 3}),
        "rounds": coordinator.federation(rounds=5),
    }.get(what, usual)
    theirs = rows(2, ("b", "a") if what == "features" else ("a", "b"))
    made = [identities(f"p{rank}") for rank in range(3)]
    answers = run(
        [
            lambda: train(usual, 0, made[0], rows(0), patience=PATIENT),
            lambda: train(usual, 1, made[1], rows(1), patience=PATIENT),
            lambda: train(other, 1 if what == "rank" else 2, made[2], theirs, patience=PATIENT),
        ]
    )
    assert [getattr(answer, "code", answer) for answer in answers.values()] == ["federate.differs"] * 3


def test_no_coordinator_outlives_its_command(tmp_path: Path, identities: Callable[..., Identity]) -> None:
    made, port = identities("coordinator"), free_port()
    program = (
        "from pathlib import Path; import sys\n"
        "from strongroom.analytics.federated.certificates import Identity\n"
        "from strongroom.analytics.federated.coordinator import coordinate\n"
        "from strongroom.analytics.federated.federation import Federation\n"
        "if __name__ == '__main__':\n"
        f"    coordinate(Federation(host='{HOST}', port={port}, parties=3), Identity(*map(Path, sys.argv[1:])))\n"
    )
    (tmp_path / "run.py").write_text(program)
    process = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), *map(str, made)])
    meet(HOST, port, identities("p"), deadline=time.monotonic() + 60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex((HOST, port)):
                return
        time.sleep(0.1)
    pytest.fail("the server still listens")
