"""`strongroom verify` and `strongroom fetch-key` against servers on this machine."""

import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.cli.policy_file import render_policy
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.ratls.certificate import AttestedCertificate, attested_certificate

Command = Callable[..., Any]
CODE = b"\xab" * 32


@pytest.fixture(scope="module")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machines") / "machine"
    SimulatedMachine.create(folder, dt.datetime.now(dt.UTC))
    return folder


@pytest.fixture(scope="module")
def shown(machine_folder: Path) -> AttestedCertificate:
    enclave = SimulatedMachine.load(machine_folder).platform(mr_enclave=CODE, isv_prod_id=1, isv_svn=1)
    return attested_certificate(enclave)


@contextmanager
def tls_server(certificate: AttestedCertificate, folder: Path) -> Iterator[int]:
    """Answers every connection with a small HTTP response."""
    pem = folder / "server.pem"
    pem.write_bytes(
        certificate.certificate.public_bytes(Encoding.PEM)
        + certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def answer() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain:
                    try:
                        with context.wrap_socket(plain, server_side=True) as tls:
                            if tls.recv(4096):
                                tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                    except OSError:
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@pytest.fixture
def policy(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        values: dict[str, Any] = {
            "measurements": (EnclaveIdentity(CODE),),
            "tees": frozenset({"sgx"}),
            "tcb_statuses": frozenset({"UpToDate"}),
            "advisories": (),
            "min_tcb_eval_data_number": ANY,
            "accept_simulated": True,
        }
        file = tmp_path / "policy.toml"
        file.write_text(render_policy(AppraisalPolicy(**(values | changes))))
        return file

    return write


def test_says_who_is_there_and_that_it_is_trusted(
    strongroom: Command, policy: Callable[..., Path], machine_folder: Path, shown: AttestedCertificate, tmp_path: Path
) -> None:
    with tls_server(shown, tmp_path) as port:
        ended = strongroom(
            "verify", f"localhost:{port}", "--policy", policy(), "--simulated-machine", machine_folder, "--json"
        )
    assert ended.status == 0, ended.err
    said = json.loads(ended.out)
    assert said["trusted"] is True
    assert said["mr_enclave"] == CODE.hex()
    assert said["simulated"] is True
    assert said["evidence"] == "tagged"
    spki = shown.certificate.public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    import hashlib

    assert said["public_key_sha256"] == hashlib.sha256(spki).hexdigest()


def test_saved_certificate_pins_the_server_for_any_client(
    strongroom: Command, policy: Callable[..., Path], machine_folder: Path, shown: AttestedCertificate, tmp_path: Path
) -> None:
    with tls_server(shown, tmp_path) as port:
        arguments = ["verify", f"localhost:{port}", "--policy", policy(), "--simulated-machine", machine_folder]
        assert strongroom(*arguments, "--save", "pin.pem").status == 0
        assert strongroom(*arguments, "--save", "pin.pem").status == 2  # refuses to overwrite
        context = ssl.create_default_context(cafile=tmp_path / "pin.pem")
        context.check_hostname = False
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        assert httpx.get(f"https://localhost:{port}/", verify=context, trust_env=False, timeout=60).text == "hi"


def test_wrong_code_is_refused_with_what_was_found(
    strongroom: Command, policy: Callable[..., Path], machine_folder: Path, shown: AttestedCertificate, tmp_path: Path
) -> None:
    expected = policy(measurements=(EnclaveIdentity(b"\x01" * 32),))
    with tls_server(shown, tmp_path) as port:
        ended = strongroom(
            "verify",
            f"localhost:{port}",
            "--policy",
            expected,
            "--simulated-machine",
            machine_folder,
            "--json",
            "--save",
            "pin.pem",
        )
    assert ended.status == 4
    said = json.loads(ended.out)
    assert said["trusted"] is False
    assert said["mr_enclave"] == CODE.hex()
    assert [finding["code"] for finding in said["findings"]] == ["measurement.mr_enclave"]
    assert not (tmp_path / "pin.pem").exists()


def test_simulated_server_is_refused_unless_the_policy_accepts_it(
    strongroom: Command, policy: Callable[..., Path], machine_folder: Path, shown: AttestedCertificate, tmp_path: Path
) -> None:
    with tls_server(shown, tmp_path) as port:
        ended = strongroom(
            "verify",
            f"localhost:{port}",
            "--policy",
            policy(accept_simulated=False),
            "--simulated-machine",
            machine_folder,
        )
    assert ended.status == 4
    assert "simulated.refused" in ended.err


def test_another_machines_evidence_is_not_genuine(
    strongroom: Command, policy: Callable[..., Path], shown: AttestedCertificate, tmp_path: Path
) -> None:
    SimulatedMachine.create(tmp_path / "other", dt.datetime.now(dt.UTC))
    with tls_server(shown, tmp_path) as port:
        ended = strongroom(
            "verify", f"localhost:{port}", "--policy", policy(), "--simulated-machine", tmp_path / "other", "--json"
        )
    assert ended.status == 3
    assert json.loads(ended.out)["trusted"] is False


def test_nobody_there_is_unavailable(strongroom: Command, policy: Callable[..., Path], machine_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ended = strongroom("verify", f"localhost:{port}", "--policy", policy(), "--simulated-machine", machine_folder)
    assert ended.status == 5


@pytest.mark.parametrize("server", ["localhost", "localhost:0", "https://localhost:1", "a b:1", ":1", "[::1:1"])
def test_refuses_what_is_no_address(
    strongroom: Command, policy: Callable[..., Path], machine_folder: Path, server: str
) -> None:
    ended = strongroom("verify", server, "--policy", policy(), "--simulated-machine", machine_folder)
    assert ended.status == 2


def test_needs_something_to_verify_with(strongroom: Command, policy: Callable[..., Path]) -> None:
    assert "[verify.collateral]" in strongroom("verify", "localhost:1", "--policy", policy()).err


class TestFetchKey:
    """The command against the broker's provisioning service, everything through the command line's own settings."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Path:
        (tmp_path / "x.py").write_text("pass\n")
        file = tmp_path / "job.toml"
        file.write_text(
            'name = "job"\ncommand = ["python3", "x.py"]\nproduct_id = 1\nsecurity_version = 1\n'
            'trusted_files = ["x.py"]\n[keys]\nwrap = "job/key/wrap"\n'
        )
        return file

    @pytest.fixture
    def server(self, strongroom: Command, job: Path, machine_folder: Path, tmp_path: Path) -> Iterator[str]:
        from strongroom.broker.folder import BrokerFolder
        from strongroom.broker.grants import Grant
        from strongroom.broker.parts import open_parts
        from strongroom.broker.provisioning_server import provisioning, provisioning_server
        from strongroom.broker.server import listening
        from strongroom.broker.settings import load_settings
        from strongroom.broker.verifier import trust, verify_with
        from strongroom.formats.kbs import ResourcePath

        made = strongroom("broker", "init", "broker", "--allow-simulated", "--simulated-machine", machine_folder)
        assert made.status == 0, made.err
        printed = strongroom(
            "authorize",
            job,
            "--accept-simulated",
            "--provision",
            "job/key/wrap",
            "--dry-run",
            "--owner",
            "broker/owner",
        )
        assert printed.status == 0, printed.err
        value = json.loads(printed.out)
        del value["policy_digest"]
        files = BrokerFolder(tmp_path / "broker")
        believed = trust(files.collateral, files.simulated_root)

        class InProcess:
            def verify(self, quote: bytes, now: dt.datetime) -> Any:
                return verify_with(believed, quote, now)

        parts = open_parts(files, load_settings(files.settings), InProcess())
        try:
            parts.keyring.create(ResourcePath.parse("job/key/wrap"), b"SIXTEEN-BYTE-KEY", parts.clock())
            parts.grants.add(Grant.from_json(value), parts.clock())
            service = provisioning_server(parts, files)
            with listening("127.0.0.1", 0) as listener, provisioning(service, listener):
                yield f"localhost:{listener.getsockname()[1]}"
        finally:
            parts.close()

    def test_writes_the_key_for_its_owner_only(
        self, strongroom: Command, server: str, job: Path, machine_folder: Path, tmp_path: Path
    ) -> None:
        arguments = ["--server", server, "--ca", "broker/ca.pem", "--workload", job]
        ended = strongroom("fetch-key", *arguments, "--simulated-machine", machine_folder, "--out", "wrap_key")
        assert ended.status == 0, ended.err
        assert (tmp_path / "wrap_key").read_bytes() == b"SIXTEEN-BYTE-KEY"
        assert (tmp_path / "wrap_key").stat().st_mode & 0o777 == 0o600
        assert "SIXTEEN" not in ended.out + ended.err
        again = strongroom("fetch-key", *arguments, "--simulated-machine", machine_folder, "--out", "wrap_key")
        assert again.status == 2

    def test_changed_code_gets_nothing(
        self, strongroom: Command, server: str, job: Path, machine_folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "x.py").write_text("print('changed')\n")
        ended = strongroom(
            "fetch-key", "--server", server, "--ca", "broker/ca.pem", "--workload", job,
            "--simulated-machine", machine_folder, "--out", "wrap_key",
        )  # fmt: skip
        assert ended.status == 4
        assert not (tmp_path / "wrap_key").exists()

    def test_outside_of_a_room_there_is_nothing_to_fetch(self, strongroom: Command, tmp_path: Path) -> None:
        ended = strongroom("fetch-key", "--server", "localhost", "--ca", "ca.pem", "--out", "x")
        assert ended.status == 2
        assert "[platform.none]" in ended.err
        assert "--simulated-machine" in ended.err

    @pytest.mark.parametrize("arguments", [[], ["--out", "x", "--set-key", "default"]])
    def test_needs_one_place_to_put_the_key(self, strongroom: Command, arguments: list[str]) -> None:
        ended = strongroom("fetch-key", "--server", "localhost", "--ca", "ca.pem", *arguments)
        assert "[fetch_key.out]" in ended.err
