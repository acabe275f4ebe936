"""Trust a server for what it is: look at its evidence once, then speak to exactly this key.

    peer = attested_server(parse_address("model.example:8500"), genuine, policy, now)
    httpx.Client(verify=ssl_context(peer))
    grpc.secure_channel(target, grpc.ssl_channel_credentials(pem(peer).encode()), options=grpc_options(peer))

A server that restarts makes a new key and must be looked at again; a connection to any other key fails. A pin has no
clock: how long it is kept is the caller's decision, and never longer than ``peer.claims.collateral_expires``.
"""

import ssl
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import ConfigurationError
from strongroom.ratls.address import Address
from strongroom.ratls.connection import TIMEOUT_S, TlsConnection
from strongroom.ratls.tls import client_context
from strongroom.ratls.verify import AttestedPeer, QuoteVerifier, check_peer, verify_certificate


def fetch_certificate(address: Address, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """The certificate a server shows, whose key it has proved to hold; nothing about it is verified.

    Args:
        address: The server.
        timeout_s: For all of it.

    Returns:
        DER.

    Raises:
        UnavailableError: It does not answer.
        VerificationError: The handshake failed (``tls.handshake``).
    """
    with TlsConnection(address, client_context(None), timeout_s=timeout_s) as connection:
        return connection.peer_certificate


def attested_server(
    address: Address,
    genuine: QuoteVerifier,
    policy: AppraisalPolicy,
    now: datetime,
    *,
    timeout_s: float = TIMEOUT_S,
) -> AttestedPeer:
    """Finds out who is behind a TLS port and whether a policy accepts it.

    Args:
        address: The server.
        genuine: Verifies quotes.
        policy: What is expected.
        now: Aware time.
        timeout_s: For the connection.

    Returns:
        The server; pin it.

    Raises:
        UnavailableError: It does not answer, or its evidence can't be verified now.
        FormatError: Its certificate is malformed or carries no evidence.
        VerificationError: The handshake failed, or the evidence is not genuine or about another key.
        PolicyRejected: The policy does not accept it.
    """
    peer = verify_certificate(fetch_certificate(address, timeout_s=timeout_s), genuine, now)
    check_peer(peer, policy, now)
    return peer


def pem(peer: AttestedPeer) -> str:
    """The certificate in PEM, to be the only root of a client."""
    return ssl.DER_cert_to_PEM_cert(peer.certificate)


def ssl_context(peer: AttestedPeer) -> ssl.SSLContext:
    """A client context that accepts this key and no other, for `ssl`, httpx, aiohttp and what is built on them.

    The name in the certificate is not compared: the key says more.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # The certificate itself is the end of the chain; it is no authority and must not become one.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=peer.certificate)
    return context


def grpc_options(peer: AttestedPeer) -> list[tuple[str, str]]:
    """Channel options for grpcio, which always compares a name: the one the certificate happens to have.

    Raises:
        ConfigurationError: The certificate has no name gRPC can compare (``tls.name``).
    """
    name = _any_name(peer.certificate)
    if name is None:
        raise ConfigurationError("the server's certificate holds no name for gRPC to compare", code="tls.name")
    return [("grpc.ssl_target_name_override", name)]


def _any_name(certificate: bytes) -> str | None:
    try:
        parsed = x509.load_der_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion):
        return None
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else None
    return next(iter(names.get_values_for_type(x509.DNSName)), None)
