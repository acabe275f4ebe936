"""One TLS connection without a socket: ciphertext in, ciphertext out.

Python's own `ssl` can't ask a client for a certificate and accept one that no authority signed, which is what attested
clients have; OpenSSL can. Keys and certificates stay in memory. Whether a self-signed peer is trusted is decided after
the handshake, from its certificate: the handshake has only proved that the peer holds the certificate's key.

Source: RFC 5246 sections 7.4.2 and 7.4.8 and RFC 8446 sections 4.4.2 and 4.4.3 (possession of the key).
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL, crypto

from strongroom.errors import ConfigurationError, UnavailableError, VerificationError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# An attested certificate with two quotes has 20 KiB; no handshake needs more than this from one side.
MAX_HANDSHAKE_BYTES: Final = 96 * 1024
_CHUNK: Final = 16 * 1024
_CIPHERS_1_2: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(certificates: Sequence[x509.Certificate], key: PrivateKey) -> SSL.Context:
    """A server that asks every client for a certificate and takes any: look at it after the handshake.

    TLS 1.2 only. Clients with mbedTLS 3.6.0 (Gramine 1.8) break off at a TLS 1.3 session ticket, OpenSSL sends tickets
    after a TLS 1.3 handshake, and this binding has no way to say none. Every attested client speaks TLS 1.2. Sessions
    are never resumed: each connection proves possession of its key anew.

    Args:
        certificates: The server's certificate and those between it and the root.
        key: The server's key.

    Raises:
        ConfigurationError: The key is not the certificate's (``tls.certificate``).
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS_1_2)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _take_any)
    _identify(context, certificates, key)
    return context


def client_context(
    authorities: Sequence[x509.Certificate] | None,
    certificates: Sequence[x509.Certificate] = (),
    key: PrivateKey | None = None,
) -> SSL.Context:
    """A client; TLS 1.2 or 1.3.

    Args:
        authorities: Roots that may vouch for the server; None takes any server: look at its certificate afterwards.
        certificates: What the client shows if it is asked.
        key: Its key.

    Raises:
        ConfigurationError: The key is not the certificate's (``tls.certificate``).
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_cipher_list(_CIPHERS_1_2)
    if authorities is None:
        context.set_verify(SSL.VERIFY_PEER, _take_any)
    else:
        context.set_verify(SSL.VERIFY_PEER)
        store = context.get_cert_store()
        if store is None:
            raise ConfigurationError("OpenSSL has no certificate store", code="tls.certificate")
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
    if key is not None:
        _identify(context, certificates, key)
    return context


def _identify(context: SSL.Context, certificates: Sequence[x509.Certificate], key: PrivateKey) -> None:
    try:
        context.use_certificate(certificates[0])
        context.use_privatekey(key)
        context.check_privatekey()
        for certificate in certificates[1:]:
            context.add_extra_chain_cert(certificate)
    except (SSL.Error, IndexError):
        raise ConfigurationError("certificate and key do not belong together", code="tls.certificate") from None


def _take_any(_connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, _good: int) -> bool:
    return True


class TlsPipe:
    """One connection.

    Args:
        context: From `server_context` or `client_context`.
        server_name: Name the client asks for (SNI); None on the server's side.
    """

    def __init__(self, context: SSL.Context, *, server_name: str | None = None) -> None:
        self._connection = SSL.Connection(context, None)
        self._received = 0
        self._established = False
        if server_name is None:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            self._connection.set_tlsext_host_name(server_name.encode("idna"))

    def receive(self, ciphertext: bytes) -> None:
        """Takes what came from the network.

        Raises:
            VerificationError: The handshake is longer than any honest one (``tls.handshake``).
        """
        self._received += len(ciphertext)
        if not self._established and self._received > MAX_HANDSHAKE_BYTES:
            raise VerificationError("the TLS handshake does not end", code="tls.handshake")
        if ciphertext:
            self._connection.bio_write(ciphertext)

    def to_send(self) -> bytes:
        """What must go to the network now; may be empty."""
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(_CHUNK))
        except SSL.Error:  # nothing more
            return b"".join(parts)

    def handshake(self) -> bool:
        """Goes on with the handshake.

        Returns:
            True when it is done; False when more must be received.

        Raises:
            VerificationError: It failed (``tls.handshake``), or the server's certificate does not lead to an
                accepted root (``tls.server_certificate``).
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            reason = _reason(error)
            code = "tls.server_certificate" if "certificate verify failed" in reason else "tls.handshake"
            raise VerificationError(f"TLS handshake failed: {reason}", code=code) from None
        self._established = True
        return True

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes of plaintext.

        Returns:
            The bytes; b"" when the peer ended the connection properly; None when more must be received.

        Raises:
            VerificationError: The connection is broken or was altered (``tls.broken``).
        """
        try:
            return self._connection.recv(size)
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            return b""
        except SSL.Error as error:
            raise VerificationError(f"TLS connection broken: {_reason(error)}", code="tls.broken") from None

    def write(self, plaintext: bytes) -> None:
        """Encrypts; the result waits in `to_send`.

        Raises:
            UnavailableError: The connection is closed (``tls.closed``).
        """
        left = memoryview(plaintext)
        try:
            while left:
                left = left[self._connection.send(left[:_CHUNK]) :]
        except SSL.Error:
            raise UnavailableError("the TLS connection is closed", code="tls.closed") from None

    def close(self) -> None:
        """Says goodbye (close_notify); it waits in `to_send`."""
        try:
            self._connection.shutdown()
        except SSL.Error:
            return  # not established, or already broken: there is nobody to say it to

    @property
    def peer_certificate(self) -> bytes | None:
        """DER of the peer's certificate, exactly as it was sent; None if it showed none."""
        certificate = self._connection.get_peer_certificate(as_cryptography=False)
        return None if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)

    @property
    def server_name(self) -> str | None:
        """Name the client asked for (SNI); None if it named none, or none that is a name."""
        name = self._connection.get_servername()
        if name is None or not name.isascii():
            return None
        text = name.decode("ascii")
        return text if text.isprintable() else None


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words; they hold nothing of what was sent."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[2]) for entry in entries if len(entry) == 3) or "the peer went away"
