"""TLS for a model server: certificates with the names clients compare, and ``ssl.cfg`` for TensorFlow Serving.

The files carry the names that TensorFlow Serving's confidential-computing samples use, so their clients find them. The
authority signs these certificates and its key is forgotten: renewing means a new authority.

Source: intel/confidential-computing-zoo, cczoo/tensorflow-serving-cluster (names of the files).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.broker.certificates import issue_client, issue_server, make_authority
from strongroom.formats.ssl_config import SslConfig, serialize_ssl_config

AUTHORITY_NAME = "Strongroom service authority"


@dataclass(frozen=True, slots=True)
class TlsFile:
    """One file to write.

    Args:
        path: Relative, with ``/``.
        content: Bytes.
        private: Whether it holds a private key.
    """

    path: str
    content: bytes
    private: bool

    def __repr__(self) -> str:
        return f"TlsFile({self.path!r})"


def service_tls(names: Sequence[str], now: datetime, *, client: str | None = None) -> tuple[TlsFile, ...]:
    """Makes the certificates of a service.

    Args:
        names: DNS names and IP addresses clients use; at least one.
        now: Aware time.
        client: DNS name of the client that must show a certificate (two-way); None: clients need none (one-way).

    Returns:
        The files; ``ssl.cfg`` holds the server's private key too.

    Raises:
        ConfigurationError: A name is not a DNS name or IP address (``broker.host``).
    """
    authority = make_authority(AUTHORITY_NAME, now)
    server = issue_server(authority, names, now, common_name=names[0] if names else "")
    config = SslConfig(
        server.private_key.decode("ascii"),
        server.certificate.decode("ascii"),
        authority.certificate.decode("ascii") if client else "",
        client_verify=client is not None,
    )
    files = [
        TlsFile("ca_cert.pem", authority.certificate, private=False),
        TlsFile("server/cert.pem", server.certificate, private=False),
        TlsFile("server/key.pem", server.private_key, private=True),
        TlsFile("ssl.cfg", serialize_ssl_config(config), private=True),
    ]
    if client is not None:
        issued = issue_client(authority, client, now)
        files += [
            TlsFile("client/cert.pem", issued.certificate, private=False),
            TlsFile("client/key.pem", issued.private_key, private=True),
        ]
    return tuple(files)
