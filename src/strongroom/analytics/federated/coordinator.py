"""The coordinator: XGBoost's federated server in a process of its own."""

import signal
import socket

from strongroom.analytics.federated.certificates import Identity
from strongroom.analytics.federated.federation import Federation
from strongroom.analytics.federated.processes import SPAWN, end_with_parent, federated_xgboost
from strongroom.errors import ConfigurationError, UnavailableError


def coordinate(federation: Federation, identity: Identity, *, timeout_s: float | None = None) -> None:
    """Run the coordinator until it is ended.

    It adds up what the parties send: histograms of gradients and summaries of each feature's values. It sees every
    party's own, which is why it is an attested workload like the parties.

    Args:
        federation: The same as every party's.
        identity: Certificate of the coordinator.
        timeout_s: End after so long; None: never.

    Raises:
        ConfigurationError: XGBoost lacks the federated communicator, or the port is taken.
        UnavailableError: The server ended with an error.
    """
    federated_xgboost()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", federation.port))
        except OSError as error:
            raise ConfigurationError(
                f"port {federation.port} is taken: {error.strerror}", code="federate.port"
            ) from None
    process = SPAWN.Process(
        target=_serve, args=(federation.parties, federation.port, tuple(map(str, identity))), daemon=True
    )
    process.start()
    try:
        process.join(timeout_s)
    finally:
        process.kill()
        process.join()
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise UnavailableError("the federated server failed", code="federate.server")


def _serve(parties: int, port: int, files: tuple[str, str, str]) -> None:
    from xgboost.federated import run_federated_server

    end_with_parent()
    authority, certificate, private_key = files
    run_federated_server(
        n_workers=parties,
        port=port,
        server_key_path=private_key,
        server_cert_path=certificate,
        client_cert_path=authority,
    )
