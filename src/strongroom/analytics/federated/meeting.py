"""The first handshake with the coordinator, before XGBoost tries it: a refused XGBoost client would try without end."""

import socket
import ssl
import time
from typing import Final

from strongroom.analytics.federated.certificates import Identity
from strongroom.errors import UnavailableError, VerificationError

CONNECT_S: Final = 5.0
RETRY_S: Final = 0.2
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""RFC 9113 section 3.4: the client's preface and an empty SETTINGS frame."""


def meet(host: str, port: int, identity: Identity, *, deadline: float) -> None:
    """Wait for the coordinator and shake hands with it once.

    Args:
        host: Where it is.
        port: Its port.
        identity: Certificate of this party.
        deadline: By `time.monotonic`, when to give up.

    Raises:
        VerificationError: Its certificate is not the federation's, or ours is not.
        UnavailableError: Nobody answers.
    """
    context = ssl.create_default_context(cafile=str(identity.authority))
    context.load_cert_chain(identity.certificate, identity.private_key)
    context.set_alpn_protocols(["h2"])
    while True:
        refused = ""
        try:
            with (
                socket.create_connection((host, port), timeout=CONNECT_S) as plain,
                context.wrap_socket(plain, server_hostname=host) as channel,
            ):
                channel.sendall(_HTTP2_PREFACE)
                if channel.recv(1):  # the server's first frame: only now it has taken our certificate
                    return
                refused = "the coordinator hung up"
        except ssl.SSLError as error:
            refused = error.reason or "TLS failed"
        except OSError:
            pass
        if refused:
            raise VerificationError(
                f"not of one federation: {refused}",
                code="federate.certificate",
                hint="the coordinator and every party need the same secret from the broker",
            )
        if time.monotonic() >= deadline:
            raise UnavailableError(f"no coordinator at {host}:{port}", code="federate.unreachable")
        time.sleep(RETRY_S)
