"""`strongroom tls`: what it makes is what gRPC clients need."""

import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.formats.ssl_config import parse_ssl_config, serialize_ssl_config


def strongroom(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "strongroom", "tls", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def two_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tls") / "out"
    result = strongroom("two-way", "localhost", "127.0.0.1", "--client", "client.example.com", "--out", str(out))
    assert result.returncode == 0, result.stderr
    return out


def test_writes_the_files_of_the_samples(two_way: Path) -> None:
    files = {str(path.relative_to(two_way)) for path in two_way.rglob("*") if path.is_file()}
    assert files == {
        "ca_cert.pem", "server/cert.pem", "server/key.pem", "client/cert.pem", "client/key.pem", "ssl.cfg",
    }  # fmt: skip


def test_private_keys_are_for_their_owner_only(two_way: Path) -> None:
    for name in ("server/key.pem", "client/key.pem", "ssl.cfg"):
        assert stat.S_IMODE((two_way / name).stat().st_mode) == 0o600, name


def test_authority_key_is_kept_nowhere(two_way: Path) -> None:
    keys = [path for path in two_way.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert sorted(path.name for path in keys) == ["key.pem", "key.pem", "ssl.cfg"]


def server_of(folder: Path) -> ssl.SSLContext:
    """A server configured from ssl.cfg alone, as TensorFlow Serving is."""
    config = parse_ssl_config((folder / "ssl.cfg").read_bytes())
    (folder.parent / "test.pem").write_text(config.server_cert + config.server_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.parent / "test.pem")
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=config.custom_ca)
    return context


def exchange(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            plain, _ = listener.accept()
            with plain:
                try:
                    with server.wrap_socket(plain, server_side=True) as tls:
                        tls.sendall(b"served")
                except (ssl.SSLError, OSError):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            plain = socket.create_connection(listener.getsockname(), 20)
            with plain, client.wrap_socket(plain, server_hostname=name) as tls:
                return tls.recv(6)
        finally:
            thread.join(20)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_two_way_serves_the_client_by_name_and_by_address(two_way: Path, name: str) -> None:
    client = ssl.create_default_context(cafile=two_way / "ca_cert.pem")
    client.load_cert_chain(two_way / "client/cert.pem", two_way / "client/key.pem")
    assert exchange(server_of(two_way), client, name) == b"served"


def test_two_way_refuses_a_client_without_certificate(two_way: Path) -> None:
    client = ssl.create_default_context(cafile=two_way / "ca_cert.pem")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, OSError)):
        exchange(server_of(two_way), client, "localhost")


def test_two_way_refuses_the_server_certificate_as_a_clients(two_way: Path) -> None:
    client = ssl.create_default_context(cafile=two_way / "ca_cert.pem")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.load_cert_chain(two_way / "server/cert.pem", two_way / "server/key.pem")
    with pytest.raises((ssl.SSLError, OSError)):
        exchange(server_of(two_way), client, "localhost")


def test_clients_refuse_another_name(two_way: Path) -> None:
    client = ssl.create_default_context(cafile=two_way / "ca_cert.pem")
    client.load_cert_chain(two_way / "client/cert.pem", two_way / "client/key.pem")
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(server_of(two_way), client, "other.example.com")


def test_one_way_needs_no_client_certificate(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert strongroom("one-way", "localhost", "--out", str(out)).returncode == 0
    assert not parse_ssl_config((out / "ssl.cfg").read_bytes()).custom_ca
    client = ssl.create_default_context(cafile=out / "ca_cert.pem")
    assert exchange(server_of(out), client, "localhost") == b"served"


def test_refuses_to_overwrite(two_way: Path) -> None:
    before = (two_way / "ssl.cfg").read_bytes()
    result = strongroom("one-way", "localhost", "--out", str(two_way))
    assert result.returncode == 2
    assert "something already" in result.stderr
    assert (two_way / "ssl.cfg").read_bytes() == before


@pytest.mark.parametrize("name", ["", "a b", "*.example.com", "https://x", "-x.example.com"])
def test_refuses_what_is_no_name(tmp_path: Path, name: str) -> None:
    result = strongroom("one-way", "--out", str(tmp_path / "out"), "--", name)
    assert result.returncode == 2
    assert not (tmp_path / "out").exists()


def test_show_tells_names_and_no_key(two_way: Path) -> None:
    result = strongroom("show", str(two_way / "ssl.cfg"), "--json")
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["client_verify"] is True
    assert said["server"][0]["names"] == ["localhost", "127.0.0.1"]
    text = strongroom("show", str(two_way / "ssl.cfg"))
    assert "PRIVATE" not in result.stdout + text.stdout
    assert "must show a certificate" in text.stdout


def test_show_refuses_what_no_server_should_run_with(tmp_path: Path) -> None:
    file = tmp_path / "ssl.cfg"
    file.write_text("server_key: 'k' server_cert: 'c' client_verify: true")
    result = strongroom("show", str(file))
    assert result.returncode == 3
    assert "client_verify" in result.stderr


def test_show_refuses_a_certificate_of_an_unknown_version(two_way: Path, tmp_path: Path) -> None:
    config = parse_ssl_config((two_way / "ssl.cfg").read_bytes())
    der = ssl.PEM_cert_to_DER_cert(config.server_cert)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1  # version 3
    version_6 = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"))
    (tmp_path / "ssl.cfg").write_bytes(serialize_ssl_config(replace(config, server_cert=version_6)))
    result = strongroom("show", str(tmp_path / "ssl.cfg"))
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert "no certificate" in result.stderr
