"""Whom a client believes, and how long."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import ConfigurationError
from strongroom.ratls.verify import AttestedPeer, QuoteVerifier, check_peer, verify_certificate
from strongroom.serving.memory_files import memory_file

KEEP_S: Final = 3600.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """What a server that asks for client certificates is shown, once its own evidence was accepted.

    Args:
        key: PEM private key, unencrypted. Never shown.
        chain: PEM certificates, the client's own first.
    """

    key: bytes = field(repr=False)
    chain: bytes

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a client context show it.

        Raises:
            ConfigurationError: Key and certificate do not work together.
        """
        try:
            with memory_file(self.chain) as chain, memory_file(self.key) as key:
                context.load_cert_chain(chain, key, password="")
        except (ssl.SSLError, ValueError):
            raise ConfigurationError(
                "the client's key and certificate do not work together", code="client.tls"
            ) from None


@dataclass(frozen=True, slots=True)
class Trust:
    """What evidence is verified with and what it must say.

    Args:
        genuine: Verifies quotes.
        policy: What is expected of a server.
        now: Aware clock.
        keep_s: Evidence is looked at again after this time, and never kept longer than its collateral is good.
        identity: Shown to a server that asks for client certificates; None for nothing.
    """

    genuine: QuoteVerifier
    policy: AppraisalPolicy
    now: Callable[[], datetime] = _utc_now
    keep_s: float = KEEP_S
    identity: ClientIdentity | None = None

    def accept(self, certificate: bytes) -> AttestedPeer:
        """Verify and appraise an attested certificate.

        Raises:
            FormatError: Malformed.
            VerificationError: Not genuine.
            PolicyRejected: The policy does not accept it.
            UnavailableError: It can't be verified now.
        """
        now = self.now()
        peer = verify_certificate(certificate, self.genuine, now)
        check_peer(peer, self.policy, now)
        return peer

    def good_until(self, peer: AttestedPeer) -> datetime:
        """When a peer that was accepted now must be looked at again."""
        return min(self.now() + timedelta(seconds=self.keep_s), peer.claims.collateral_expires)


@dataclass(frozen=True, slots=True)
class Proxy:
    """Somebody else ends TLS in front of the server, so requests must be sealed.

    Args:
        ca: PEM of the authorities that vouch for the proxy; None for the system's.
        dangerous_plaintext: No TLS at all up to the server. What is sealed stays sealed; that there is traffic, and how
            much, is visible to everybody.
    """

    ca: bytes | None = None
    dangerous_plaintext: bool = False


def check_way(proxy: Proxy | None, *, seal_requests: bool) -> None:
    """A request that is not sealed must not go through a proxy.

    Raises:
        ConfigurationError: It would.
    """
    if proxy is not None and not seal_requests:
        raise ConfigurationError(
            "a proxy would read the requests", code="client.proxy", hint="seal_requests=True, or connect to the server"
        )
