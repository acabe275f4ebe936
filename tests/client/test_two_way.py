"""Attested TLS together with client certificates: both sides know whom they speak to."""

import asyncio
import datetime as dt
import socket
import ssl
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom.client import AsyncGrpcClient, AsyncRestClient, ClientIdentity, GrpcClient, RestClient, Trust
from strongroom.errors import ConfigurationError, PolicyRejected, UnavailableError
from strongroom.serving.status import Refused

KINDS = {"grpc": GrpcClient, "rest": RestClient, "async grpc": AsyncGrpcClient, "async rest": AsyncRestClient}
INPUTS = {"x": np.array([1.5], dtype=np.float32), "text": ["t"]}


def certified(name: str) -> ClientIdentity:
    """A key and a certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start, end = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2036, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ClientIdentity(private, certificate.public_bytes(pem))


@pytest.fixture(scope="module")
def member() -> ClientIdentity:
    return certified("member")


def ask(kind: str, site: Any, trust: Trust) -> Any:
    made: Any = KINDS[kind](site.grpc if "grpc" in kind else site.rest, trust, timeout_s=10)
    if "async" not in kind:
        with made as client:
            return client.predict("echo", INPUTS)

    async def run() -> Any:
        async with made as client:
            return await client.predict("echo", INPUTS)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_member_and_attested_server_speak(start: Any, trust: Trust, member: ClientIdentity, kind: str) -> None:
    site = start(client_ca=member.chain)
    assert ask(kind, site, replace(trust, identity=member)).outputs["x"].tolist() == [1.5]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_stranger_is_refused(start: Any, trust: Trust, member: ClientIdentity, kind: str, who: str) -> None:
    site = start(client_ca=member.chain)
    identity = certified("member") if who == "stranger" else None
    with pytest.raises((UnavailableError, Refused)):
        ask(kind, site, replace(trust, identity=identity))


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_member_refuses_another_enclave(start: Any, wary: Trust, member: ClientIdentity, kind: str) -> None:
    site = start(client_ca=member.chain)
    with pytest.raises(PolicyRejected):
        ask(kind, site, replace(wary, identity=member))


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_both_stay_in_force_when_the_quote_is_renewed(
    start: Any, trust: Trust, member: ClientIdentity, kind: str
) -> None:
    site = start(client_ca=member.chain)
    site.renew()
    assert ask(kind, site, replace(trust, identity=member)).version == 1
    with pytest.raises((UnavailableError, Refused)):
        ask(kind, site, trust)


def test_nothing_is_answered_before_the_certificate_is_shown(start: Any, member: ClientIdentity) -> None:
    site = start(client_ca=member.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        pytest.raises(OSError),  # noqa: PT011  # an alert or a reset, as the system likes
        socket.create_connection(("127.0.0.1", site.server.rest_port), timeout=10) as raw,
        context.wrap_socket(raw) as connection,
    ):
        connection.sendall(b"GET /v1/models/echo HTTP/1.1\r\nhost: x\r\n\r\n")
        if not connection.recv(100):
            raise ConnectionResetError


def test_withdrawing_an_authority_takes_a_restart(start: Any, trust: Trust, member: ClientIdentity) -> None:
    """The context of the REST server forgets no authority: half a withdrawal would be worse than none."""
    site = start(client_ca=member.chain)
    material = replace(site.identity.material(), client_ca=certified("other").chain)
    site.tls._source = lambda: material
    assert not site.tls.renew()
    assert ask("rest", site, replace(trust, identity=member)).version == 1
    site.tls._source = lambda: replace(material, client_ca=member.chain + material.client_ca)
    assert site.tls.renew()


def test_identity_that_does_not_work_is_refused() -> None:
    mixed = ClientIdentity(certified("a").key, certified("b").chain)
    with pytest.raises(ConfigurationError, match="do not work together"):
        mixed.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert "PRIVATE" not in repr(mixed)
