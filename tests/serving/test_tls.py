"""TLS: one-way, two-way, renewed without a restart; garbage and strangers."""

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.ssl_config import SslConfig, parse_ssl_config, serialize_ssl_config
from strongroom.serving.config.tls import Tls, TlsMaterial
from strongroom.serving.engines.xgboost import XGBoostMaker
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.storage import DangerousPlaintextFolder
from strongroom.serving.server import ModelServer, ServerOptions
from strongroom.serving.wire import tensorflow as wire


@dataclass
class Site:
    """A server with TLS and what its clients need."""

    server: ModelServer
    tls: Tls
    authority: Any
    given: list[TlsMaterial]

    def status(self, ca: str, identity: tuple[str, str] | None = None) -> Any:
        """One gRPC call, verifying the server by a CA."""
        key, certificate = identity or (None, None)
        credentials = grpc.ssl_channel_credentials(
            ca.encode(), key.encode() if key else None, certificate.encode() if certificate else None
        )
        request = wire.GetModelStatusRequest()
        request.model_spec.name = "tabular"
        with grpc.secure_channel(f"localhost:{self.server.grpc_port}", credentials) as channel:
            stub = channel.unary_unary(
                "/tensorflow.serving.ModelService/GetModelStatus",
                request_serializer=wire.GetModelStatusRequest.SerializeToString,
                response_deserializer=wire.GetModelStatusResponse.FromString,
            )
            return stub(request, timeout=10)

    def rest(self, ca: str, tmp_path: Path, identity: tuple[str, str] | None = None) -> int:
        context = ssl.create_default_context(cadata=ca)
        if identity:
            (tmp_path / "id.pem").write_text("".join(identity))
            context.load_cert_chain(tmp_path / "id.pem")
        url = f"https://localhost:{self.server.rest_port}/v1/models/tabular"
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            return int(answer.status)


@pytest.fixture
def site(models: Path, make_authority: Any, request: pytest.FixtureRequest) -> Iterator[Site]:
    two_way = getattr(request, "param", False)
    authority = make_authority("authority")
    key, certificate = authority.issue("localhost")
    written = serialize_ssl_config(SslConfig(key, certificate, authority.pem, two_way))
    given = [TlsMaterial.from_ssl_config(parse_ssl_config(written))]
    tls = Tls(lambda: given[-1])
    options = ServerOptions((ModelSettings("tabular", "tabular"),), host="127.0.0.1", grpc_port=0, rest_port=0)
    server = ModelServer(options, DangerousPlaintextFolder(models), [XGBoostMaker()], tls)
    server.start()
    yield Site(server, tls, authority, given)
    server.drain()


def test_one_way(site: Site, tmp_path: Path) -> None:
    assert site.status(site.authority.pem).model_version_status[0].state == 30
    assert site.rest(site.authority.pem, tmp_path) == 200


def test_client_refuses_a_server_of_another_authority(site: Site, make_authority: Any, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError):
        site.status(make_authority("other").pem)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        site.rest(make_authority("other").pem, tmp_path)


@pytest.mark.parametrize("site", [True], indirect=True)
def test_two_way(site: Site, make_authority: Any, tmp_path: Path) -> None:
    identity = site.authority.issue("client")
    assert site.status(site.authority.pem, identity).model_version_status[0].version == 1
    assert site.rest(site.authority.pem, tmp_path, identity) == 200


@pytest.mark.parametrize("site", [True], indirect=True)
@pytest.mark.parametrize("stranger", [False, True], ids=["no certificate", "another authority's"])
def test_two_way_refuses_strangers(site: Site, make_authority: Any, tmp_path: Path, stranger: bool) -> None:
    identity = make_authority("other").issue("client") if stranger else None
    with pytest.raises(grpc.RpcError):
        site.status(site.authority.pem, identity)
    with pytest.raises((urllib.error.URLError, OSError)):
        site.rest(site.authority.pem, tmp_path, identity)


def renewed(site: Site, authority: Any) -> TlsMaterial:
    key, certificate = authority.issue("localhost")
    return replace(site.given[0], key=key.encode(), chain=certificate.encode())


def test_certificate_is_renewed_without_a_restart(site: Site, make_authority: Any, tmp_path: Path) -> None:
    site.status(site.authority.pem)
    other = make_authority("next")
    site.given.append(renewed(site, other))
    assert site.tls.renew()
    site.status(other.pem)
    assert site.rest(other.pem, tmp_path) == 200
    with pytest.raises(grpc.RpcError):
        site.status(site.authority.pem)
    assert not site.tls.renew()  # nothing new


@pytest.mark.parametrize("fault", ["garbage", "other key", "unreadable"])
def test_bad_renewal_keeps_what_is_in_force(site: Site, make_authority: Any, fault: str) -> None:
    good = renewed(site, make_authority("next"))
    bad = {
        "garbage": replace(good, chain=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        "other key": replace(good, key=site.given[0].key),
        "unreadable": good,
    }[fault]
    if fault == "unreadable":

        def unreadable() -> TlsMaterial:
            raise UnavailableError("the broker is down")

        site.tls._source = unreadable
    site.given.append(bad)
    assert not site.tls.renew()
    site.status(site.authority.pem)


def test_client_verification_cannot_be_turned_off_by_a_renewal(site: Site) -> None:
    site.given.append(replace(site.given[0], client_ca=site.authority.pem.encode()))
    assert not site.tls.renew()


def test_tls_garbage_does_not_disturb_others(site: Site, tmp_path: Path) -> None:
    ports = (site.server.grpc_port, site.server.rest_port)
    for port in ports:
        for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"A" * 5000, b"\0" * 70_000):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                try:
                    connection.sendall(junk)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(100)
                except OSError:
                    pass  # broken off: fine
    site.status(site.authority.pem)
    assert site.rest(site.authority.pem, tmp_path) == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(site: Site, version: ssl.TLSVersion) -> None:
    for port in (site.server.grpc_port, site.server.rest_port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(raw)


@pytest.mark.parametrize("key", [b"", b"no pem", None])
def test_material_that_does_not_work_is_refused_at_the_start(make_authority: Any, key: bytes | None) -> None:
    authority = make_authority("a")
    _, certificate = authority.issue("localhost")
    other_key, _ = authority.issue("localhost")
    with pytest.raises(ConfigurationError, match="do not work together"):
        Tls(lambda: TlsMaterial(other_key.encode() if key is None else key, certificate.encode()))


def test_private_key_is_not_shown(site: Site) -> None:
    assert "PRIVATE" not in repr(site.given[0])


def test_ssl_cfg_without_client_verify_accepts_anonymous_clients(make_authority: Any) -> None:
    authority = make_authority("a")
    key, certificate = authority.issue("localhost")
    assert TlsMaterial.from_ssl_config(SslConfig(key, certificate, authority.pem, False)).client_ca == b""
