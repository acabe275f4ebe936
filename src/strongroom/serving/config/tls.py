"""TLS material for both servers, from memory, renewed without a restart."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.formats.ssl_config import SslConfig
from strongroom.serving.memory_files import memory_file

log: Any = structlog.get_logger("strongroom.serving")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What a server shows and whom it accepts.

    Args:
        key: PEM private key. Never shown.
        chain: PEM certificates, the server's own first.
        client_ca: PEM authorities of accepted clients; empty to ask for no client certificate.
    """

    key: bytes = field(repr=False)
    chain: bytes
    client_ca: bytes = b""

    @classmethod
    def from_ssl_config(cls, config: SslConfig) -> "TlsMaterial":
        """TensorFlow Serving's ssl.cfg: without ``client_verify`` a client may stay anonymous."""
        return cls(
            config.server_key.encode("ascii"),
            config.server_cert.encode("ascii"),
            config.custom_ca.encode("ascii") if config.client_verify else b"",
        )


Source = Callable[[], TlsMaterial]
"""Reads the material again: from the sealed ssl.cfg, or makes a fresh attested certificate."""


class Tls:
    """The material in force. `renew` replaces it for new connections; those that are open go on.

    Args:
        source: Where material comes from.

    Raises:
        ConfigurationError: The first material does not work.
        StrongroomError: It can't be read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._material = source()
        self._context = _server_context()
        _load(self._context, self._material)
        self._generation = 0
        self._given = 0

    @property
    def material(self) -> TlsMaterial:
        """What is in force."""
        return self._material

    def renew(self) -> bool:
        """Read the source again; keep what is in force when that fails.

        Returns:
            Whether something new is in force.
        """
        try:
            changed = self._replace(self._source())
        except StrongroomError as error:
            log.warning("TLS material not renewed", code=error.code, error=error.message)
            return False
        if changed:
            log.info("TLS material renewed")
        return changed

    def _replace(self, fresh: TlsMaterial) -> bool:
        with self._lock:
            if fresh == self._material:
                return False
            if bool(fresh.client_ca) != bool(self._material.client_ca):
                raise ConfigurationError("turning client certificates on or off takes a restart", code="serving.tls")
            if self._material.client_ca not in fresh.client_ca:  # OpenSSL's contexts forget no authority
                raise ConfigurationError("withdrawing client authorities takes a restart", code="serving.tls")
            _load(_server_context(), fresh)  # try it where a mistake does no harm
            _load(self._context, fresh)
            self._material = fresh
            self._generation += 1
            return True

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server; each handshake sees what is in force."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._fetch, require_client_authentication=bool(self._material.client_ca)
        )

    def context(self) -> ssl.SSLContext:
        """Context of the REST server; `renew` changes it in place."""
        return self._context

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC before each handshake; None: nothing new."""
        with self._lock:
            if self._given == self._generation:
                return None
            self._given = self._generation
            return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        material = self._material
        return grpc.ssl_server_certificate_configuration(
            [(material.key, material.chain)], root_certificates=material.client_ca or None
        )


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load(context: ssl.SSLContext, material: TlsMaterial) -> None:
    try:
        with memory_file(material.chain) as chain, memory_file(material.key) as key:
            context.load_cert_chain(chain, key, password=_no_password)
        if material.client_ca:
            context.load_verify_locations(cadata=material.client_ca.decode("ascii"))
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(
            "the TLS key and certificates do not work together", code="serving.tls", hint="PEM, the key unencrypted"
        ) from None


def _no_password() -> str:
    """OpenSSL would otherwise ask on the terminal."""
    return ""
