"""Renews the server's certificate with the broker's own authority; clients need nothing new."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from strongroom.broker.certificates import Issued, issue_server
from strongroom.broker.folder import PUBLIC_FILE_MODE, BrokerFolder, write_new
from strongroom.errors import ConfigurationError


def renew_certificate(files: BrokerFolder, *, hosts: Sequence[str], now: datetime) -> x509.Certificate:
    """Replace the server's certificate and key. A running broker goes on with the old ones until it is restarted.

    Args:
        files: The broker's folder.
        hosts: Names and addresses to add to those of the present certificate.
        now: Aware time.

    Returns:
        The new certificate.

    Raises:
        ConfigurationError: A file is absent or malformed, or a host is not one.
    """
    try:
        present = x509.load_pem_x509_certificate(files.server_certificate.read_bytes())
        authority = Issued(files.ca_certificate.read_bytes(), files.ca_key.read_bytes())
        issued = issue_server(authority, tuple(dict.fromkeys((*hosts, *_hosts(present)))), now)
    except OSError as error:
        raise ConfigurationError(f"cannot read {error.filename}: {error.strerror}", code="broker.certificate") from None
    except (ValueError, TypeError, x509.ExtensionNotFound):
        raise ConfigurationError("a certificate or key is malformed", code="broker.certificate") from None
    # Key first: a crash in between leaves a pair that does not load, and renewing again repairs it.
    _replace(files.server_key, issued.private_key)
    _replace(files.server_certificate, issued.certificate, PUBLIC_FILE_MODE)
    return x509.load_pem_x509_certificate(issued.certificate)


def _hosts(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_new(fresh, content, mode)
    fresh.replace(path)
