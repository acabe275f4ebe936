"""The gRPC server: grpcio's threaded one, which measured faster than its asyncio one on small and large messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from strongroom.errors import UnavailableError
from strongroom.serving.rpc.pool import WorkerPool

MAX_MESSAGE_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Bounds of the gRPC server.

    Args:
        threads: Calls that are worked on at once; waiting for a batch counts.
        calls: Calls accepted at once; one more is refused with RESOURCE_EXHAUSTED.
        max_message_bytes: Largest message in either direction.
        max_streams: Calls of one connection at once.
    """

    threads: int = 64
    calls: int = 512
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_streams: int = 256


def make_server(handlers: Sequence[grpc.GenericRpcHandler], limits: RpcLimits) -> grpc.Server:
    """A server that is not started yet.

    Args:
        handlers: The services.
        limits: Its bounds.
    """
    server = grpc.server(
        WorkerPool(limits.threads),
        maximum_concurrent_rpcs=limits.calls,
        options=[
            ("grpc.max_receive_message_length", limits.max_message_bytes),
            ("grpc.max_send_message_length", limits.max_message_bytes),
            ("grpc.max_concurrent_streams", limits.max_streams),
            ("grpc.max_metadata_size", 32 * 1024),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ],
    )
    server.add_generic_rpc_handlers(tuple(handlers))
    return server


def bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Listen on an address.

    Args:
        server: Of `make_server`.
        address: "127.0.0.1:8500"; port 0 takes a free one.
        credentials: TLS, or None for plaintext.

    Returns:
        The port.

    Raises:
        UnavailableError: The address is taken or not ours.
    """
    try:
        port: int
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        raise UnavailableError(f"can't listen on {address}", code="serving.listen", hint="is the port taken?") from None
    return port
