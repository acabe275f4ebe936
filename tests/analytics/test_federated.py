"""Federated training: who belongs to a federation, and one whole training where XGBoost has the communicator."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography import x509

from strongroom.analytics.federated.certificates import Identity, federation_authority, write_identity
from strongroom.analytics.federated.federation import Federation
from strongroom.analytics.federated.meeting import meet
from strongroom.analytics.federated.processes import federated_xgboost
from strongroom.analytics.federated.training import Patience, _arrays, _reason, train
from strongroom.errors import ConfigurationError, FormatError, UnavailableError, VerificationError

NOW = datetime.now(UTC)
SECRET = b"s" * 32
HOST = "127.0.0.1"
SHORT = Patience(total_s=1, round_s=1)


def member(folder: Path, secret: bytes = SECRET, *, host: str | None = None) -> Identity:
    folder.mkdir()
    return write_identity(folder, secret, NOW, host=host, name="party-0")


@contextmanager
def coordinator(identity: Identity) -> Iterator[int]:
    """A TLS server that asks for a certificate of the federation and then sends one byte."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    context.load_verify_locations(identity.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    with socket.create_server((HOST, 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as channel:
                    channel.sendall(b"\0")
                    channel.recv(100)
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


def test_two_processes_with_the_secret_belong_together(tmp_path: Path) -> None:
    with coordinator(member(tmp_path / "c", host=HOST)) as port:
        meet(HOST, port, member(tmp_path / "p"), deadline=time.monotonic() + 60)


def test_a_party_of_another_federation_does_not_take_the_coordinator(tmp_path: Path) -> None:
    with coordinator(member(tmp_path / "c", host=HOST)) as port, pytest.raises(VerificationError):
        meet(HOST, port, member(tmp_path / "p", b"x" * 32), deadline=time.monotonic() + 60)


def test_the_coordinator_does_not_take_a_party_of_another_federation(tmp_path: Path) -> None:
    ours, foreign = member(tmp_path / "p"), member(tmp_path / "f", b"x" * 32)
    mixed = Identity(ours.authority, foreign.certificate, foreign.private_key)
    with coordinator(member(tmp_path / "c", host=HOST)) as port, pytest.raises(VerificationError):
        meet(HOST, port, mixed, deadline=time.monotonic() + 60)


def test_a_party_is_no_coordinator(tmp_path: Path) -> None:
    """A party's certificate is for clients: it can't pose as the coordinator to the others."""
    with coordinator(member(tmp_path / "c")) as port, pytest.raises(VerificationError):
        meet(HOST, port, member(tmp_path / "p"), deadline=time.monotonic() + 60)


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        meet(HOST, 1, member(tmp_path / "p"), deadline=time.monotonic())


def test_the_secret_alone_makes_the_authority() -> None:
    one, two, other = (
        x509.load_pem_x509_certificate(federation_authority(secret, NOW).certificate).public_key().public_numbers()  # type: ignore[union-attr]  # an EC key
        for secret in (SECRET, SECRET, b"x" * 32)
    )
    assert one == two != other


def test_an_authority_needs_a_long_secret() -> None:
    with pytest.raises(ConfigurationError):
        federation_authority(b"short", NOW)


def test_private_keys_are_private_files(tmp_path: Path) -> None:
    identity = member(tmp_path / "p")
    assert identity.private_key.stat().st_mode & 0o077 == 0
    assert "s" * 16 not in identity.private_key.read_text()


@pytest.mark.parametrize(
    "wrong", [{"port": 0}, {"port": 70_000}, {"parties": 1}, {"parties": 1000}, {"rounds": 0}, {"rounds": 10**6}]
)
def test_refuses_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        Federation(**({"host": HOST, "port": 9443, "parties": 3, "rounds": 5} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "x"},
        {"max_depth": 0},
        {"max_depth": 2.5},
        {"eta": float("nan")},
        {"eta": "fast"},
        {"device": "cuda"},
        {"process_type": "update"},
        {"": 1},
    ],
)
def test_refuses_parameters_that_are_not_listed_or_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Federation(host=HOST, port=9443, parties=3, parameters=wrong)


@pytest.mark.parametrize("wrong", [(0, 1), (1, 0), (float("nan"), 1)])
def test_refuses_times_that_are_none(wrong: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError):
        Patience(total_s=wrong[0], round_s=wrong[1])


def test_whatever_differs_between_parties_differs_in_the_agreement() -> None:
    usual: dict[str, Any] = {"host": HOST, "port": 9443, "parties": 3, "rounds": 5}
    ours = Federation(**usual).agreement(("a", "b"))
    assert ours == Federation(**usual | {"host": "elsewhere", "parameters": {"eta": 0.2}}).agreement(("a", "b"))
    for change in ({"rounds": 6}, {"parties": 4}, {"parameters": {"eta": 0.3}}):
        assert Federation(**usual | change).agreement(("a", "b")) != ours
    assert Federation(**usual).agreement(("b", "a")) != ours


@pytest.mark.parametrize(
    "rows",
    [
        pa.table({"a": [1.0]}),
        pa.table({"label": [1.0]}),
        pa.table({"a": pa.array([], pa.float64()), "label": pa.array([], pa.float64())}),
        pa.table({"a": ["x"], "label": [1]}),
        pa.table({"a": [1.0], "label": pa.array([None], pa.float64())}),
    ],
)
def test_refuses_rows_that_cannot_train(rows: Any) -> None:
    with pytest.raises(FormatError):
        _arrays(rows)


def test_missing_features_stay_missing() -> None:
    features, matrix, labels = _arrays(pa.table({"a": pa.array([1, None]), "label": [0, 1]}))
    assert features == ("a",) and matrix[0, 0] == 1 and matrix[1, 0] != matrix[1, 0] and labels.tolist() == [0, 1]


def test_the_innermost_reason_is_told() -> None:
    assert _reason("[1:2] /x/result.cc:83: \n[a|b]: [c|d]: connection refused\n") == "connection refused"
    assert _reason("") == "no reason given"


def has_communicator() -> bool:
    xgboost = pytest.importorskip("xgboost")
    return bool(xgboost.build_info().get("USE_FEDERATED"))


def test_says_what_is_missing(tmp_path: Path) -> None:
    if has_communicator():
        pytest.skip("this XGBoost has the federated communicator")
    with pytest.raises(ConfigurationError, match="without its federated communicator") as refusal:
        federated_xgboost()
    assert refusal.value.hint and "strongroom[federated]" in refusal.value.hint
    with pytest.raises(ConfigurationError):
        train(Federation(host=HOST, port=1, parties=2), 0, member(tmp_path / "p"), pa.table({}), patience=SHORT)
