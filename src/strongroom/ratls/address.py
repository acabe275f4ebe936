"""Host names, ports, and whether a server's certificate is for a host."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from strongroom.errors import ConfigurationError, VerificationError

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Args:
        host: DNS name or IP address, without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Reads ``host:port``, ``[ipv6]:port``, or only a host where a port is the custom.

    Args:
        text: As typed.
        default_port: Port when none is named; None: one must be.

    Raises:
        ConfigurationError: Not that (``address.malformed``).
    """
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?", text)
    port = default_port if match is None or match["port"] is None else int(match["port"])
    host = "" if match is None else match["six"] or match["host"]
    if port is None or not 1 <= port <= 65535 or not (_is_address(host) or _NAME.fullmatch(host)):
        raise ConfigurationError(f"not an address: {text!r}", code="address.malformed", hint="write host:port")
    return Address(host, port)


def check_host(certificate: x509.Certificate, host: str) -> None:
    """Checks that a certificate is for a host.

    Subject alternative names count exactly, without wildcards. A certificate that has none is taken by its common
    name: the certificates that Gramine's own servers are set up with are such, and here a root chosen by the user
    vouches for it, not the public ones.

    Args:
        certificate: Of the server, its chain already verified.
        host: DNS name or IP address that was connected to.

    Raises:
        VerificationError: It is for another host (``tls.host``).
    """
    if not _is_for(certificate, host):
        raise VerificationError(f"the server's certificate is not for {host}", code="tls.host")


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return host.lower() in {str(attribute.value).lower() for attribute in common}
    except (ValueError, x509.DuplicateExtension):
        return False
    if _is_address(host):
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    return host.lower() in {name.lower() for name in names.get_values_for_type(x509.DNSName)}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
