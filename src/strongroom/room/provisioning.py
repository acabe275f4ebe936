"""The room's side of Gramine's secret provisioning: one connection, one secret, named by what the room is.

Works with Strongroom's own broker and with Gramine's ``secret_prov_server_dcap`` alike.

Source: Gramine, tools/sgx/ra-tls/secret_prov_attest.c; messages in `strongroom.formats.secret_provisioning`.
"""

from pathlib import Path
from typing import Final

from cryptography import x509

from strongroom.errors import ConfigurationError, FormatError, KeyReleaseError, UnavailableError, VerificationError
from strongroom.formats.secret_provisioning import HEADER_SIZE, REQUEST, parse_response_header
from strongroom.platforms import Platform
from strongroom.ratls.address import Address, check_host
from strongroom.ratls.certificate import KeyKind, attested_certificate
from strongroom.ratls.connection import TIMEOUT_S, TlsConnection
from strongroom.ratls.tls import client_context

MAX_SECRET_BYTES: Final = 1024 * 1024
MAX_CA_BYTES: Final = 1024 * 1024


def fetch_provisioned(
    platform: Platform,
    server: Address,
    ca_file: Path,
    *,
    kind: KeyKind = "p384",
    legacy_only: bool = False,
    max_secret_bytes: int = MAX_SECRET_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Fetches the secret that a provisioning server has for this room.

    Args:
        platform: Vouches for the connection's key.
        server: Where the server is.
        ca_file: PEM; the only roots that may vouch for the server.
        kind: Kind of key. Servers of Gramine up to 1.3.1 take ``rsa3072`` only, those from 1.4 on the curves only.
        legacy_only: Show the older form of evidence only.
        max_secret_bytes: A longer secret is refused.
        timeout_s: For all of it.

    Returns:
        The secret, at least one byte.

    Raises:
        ConfigurationError: The CA file can't be read or holds no certificate.
        UnavailableError: The server or the platform does not answer.
        VerificationError: The server is not the one the CA vouches for, or the connection was altered.
        KeyReleaseError: The server took our evidence and sent nothing: it did not accept it.
        FormatError: The server's answer is malformed or cut.
    """
    authorities = _authorities(ca_file)
    shown = attested_certificate(platform, kind=kind, legacy_only=legacy_only)
    context = client_context(authorities, [shown.certificate], shown.key)
    with TlsConnection(server, context, timeout_s=timeout_s) as connection:
        check_host(_parsed(connection.peer_certificate), server.host)
        connection.write(REQUEST)
        header = _first_byte(connection, server) + connection.read_exactly(HEADER_SIZE - 1)
        return connection.read_exactly(parse_response_header(header, max_secret_bytes=max_secret_bytes))


def _first_byte(connection: TlsConnection, server: Address) -> bytes:
    try:
        return connection.read_exactly(1)
    except (FormatError, UnavailableError, VerificationError) as error:
        if error.code == "tls.timeout":
            raise
        raise KeyReleaseError(
            f"{server} did not accept our evidence",
            code="provision.refused",
            hint="the server's log has the reason; Gramine's own server prints it",
        ) from None


def _authorities(ca_file: Path) -> list[x509.Certificate]:
    try:
        with ca_file.open("rb") as file:
            return x509.load_pem_x509_certificates(file.read(MAX_CA_BYTES))
    except (OSError, ValueError, x509.InvalidVersion):
        raise ConfigurationError(f"can't read CA certificates: {ca_file}", code="tls.ca") from None


def _parsed(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion):
        raise VerificationError("the server's certificate is malformed", code="tls.server_certificate") from None
