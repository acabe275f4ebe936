"""Options of `strongroom loan serve`, and what they lead to."""

import io
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom import composition
from strongroom.cli import loan_serve
from strongroom.errors import ConfigurationError
from strongroom.loan import service
from strongroom.loan.service.settings import REFERENCE_ROOT, parse_root

PEM = {"tls/chain.pem": b"CHAIN", "tls/key.pem": b"KEY", "tls/ca.pem": b"CA"}


class FakeRoom:
    """A room with three PEM files, which remembers how files were created."""

    identity = SimpleNamespace(simulated=True)

    def __init__(self) -> None:
        self.created: list[tuple[str, bool]] = []

    def open(self, path: str) -> Any:
        return io.BytesIO(PEM[path])

    def create(self, path: str, *, durable: bool = True) -> Any:
        self.created.append((path, durable))
        return io.BytesIO()

    def key(self, alias: str) -> bytes:
        return alias.encode().ljust(16, b"-")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command would have served."""
    calls: list[Any] = []

    @contextmanager
    def enter() -> Any:
        yield FakeRoom()

    monkeypatch.setattr(composition, "enter", enter)
    monkeypatch.setattr(service, "serve", lambda settings, listen: calls.append((settings, listen)))
    monkeypatch.setattr("strongroom.loan.service.logs.configure_logging", lambda: None)
    return calls


def test_serves_the_references_root_with_sealed_certificate_and_key(served: list[Any]) -> None:
    loan_serve.serve(certificate="tls/chain.pem", key="tls/key.pem", client_ca="tls/ca.pem", host="0.0.0.0")
    settings, listen = served[0]
    assert set(settings.roots) == {REFERENCE_ROOT}
    assert settings.simulated
    assert (listen.host, listen.port) == ("0.0.0.0", 5000)
    assert (listen.tls.certificate, listen.tls.key, listen.tls.client_ca) == (b"CHAIN", b"KEY", b"CA")
    root = settings.roots[REFERENCE_ROOT]
    root.create_quickly("samples/x")
    root.storage.create("models/x")
    assert root.storage.created == [("samples/x", False), ("models/x", True)]


def test_plain_http_must_be_asked_for_and_is_announced(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    loan_serve.serve(insecure_http=True, port=8080)
    assert served[0][1].tls is None
    assert "INSECURE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        {"insecure_http": True, "key": "tls/key.pem"},
        {"insecure_http": True, "client_ca": "tls/ca.pem"},
        {"certificate": "tls/chain.pem"},
        {"key": "tls/key.pem"},
    ],
)
def test_refuses_tls_options_that_do_not_fit_together(served: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loan_serve.serve(**options)
    assert refused.value.code == "loan.tls"
    assert served == []


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("/loan_app/azure-fileshare=", ("/loan_app/azure-fileshare", "")),
        ("share=banks/first/", ("share", "banks/first")),
        ("share", ("share", "")),
        ("share=abfs://c@a.dfs.core.windows.net/f", ("share", "abfs://c@a.dfs.core.windows.net/f")),
    ],
)
def test_reads_storage_roots(text: str, root: tuple[str, str]) -> None:
    assert parse_root(text) == root


@pytest.mark.parametrize(
    "text",
    ["", "=x", "a b=x", "share=/etc", "share=..", "share=a/../b", "share=.hidden", "é=x", "a=s3://b/c", "a=abfs://"],
)
def test_refuses_storage_roots_that_are_not_plain(served: list[Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loan_serve.serve(root=[text], insecure_http=True)
    assert refused.value.code == "loan.roots"


def test_a_remote_root_without_its_key_says_what_to_do(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_key(_room: FakeRoom, alias: str) -> bytes:
        raise ConfigurationError(f"no key {alias!r} in this room", code="room.key")

    monkeypatch.setattr(FakeRoom, "key", no_key)
    with pytest.raises(ConfigurationError, match="'storage'") as refused:
        loan_serve.serve(root=["a=abfs://c@a.dfs.core.windows.net/f"], insecure_http=True)
    assert refused.value.code == "loan.roots"
    assert refused.value.hint is not None
    assert "--root-key" in refused.value.hint


def test_refuses_a_root_that_is_named_twice(served: list[Any]) -> None:
    with pytest.raises(ConfigurationError):
        loan_serve.serve(root=["a=x", "a=y"], insecure_http=True)


def test_two_names_of_one_place_are_one_root(served: list[Any]) -> None:
    loan_serve.serve(root=["a=bank", "b=bank", "c="], insecure_http=True)
    roots = served[0][0].roots
    assert roots["a"] is roots["b"]
    assert roots["c"] is not roots["a"]


def test_a_root_below_a_folder_reaches_nothing_else(
    trained_files: dict[str, bytes], storage: Any, open_client: Any, sample_csv: bytes
) -> None:
    from strongroom.loan.service.settings import Root

    storage.files.update(trained_files)
    storage.files.update({f"bank/{name}": raw for name, raw in trained_files.items() if "models" not in name})
    client = open_client()
    client.service.settings.roots["bank"] = Root(storage, "bank")
    assert client.predict(sample_csv).status_code == 200
    assert client.predict(sample_csv, az_file_path="bank").json()["code"] == "loan.unknown_model"
    assert client.train(az_file_path="bank").status_code == 200
    assert client.predict(sample_csv, az_file_path="bank").status_code == 200
    assert {Path(name).parts[0] for name in storage.files} == {"data", "models", "samples", "bank"}
