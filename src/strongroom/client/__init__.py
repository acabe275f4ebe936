"""Clients of the model server that know whom they speak to before they send anything.

    trust = Trust(genuine, policy)
    with GrpcClient("models.example:8500", trust) as client:
        answer = client.predict("loan", {"inputs": rows})

The server's evidence is verified and appraised first; then its key is pinned, so that the connection can only end in
that enclave. Where somebody else ends TLS (an ingress, a load balancer), requests are sealed to a key that the attested
key vouches for (``seal_requests=True``): what is in between learns lengths and times.
"""

from strongroom.client.questions import Prediction
from strongroom.client.rest import AsyncRestClient, RestClient
from strongroom.client.rpc import AsyncGrpcClient, GrpcClient
from strongroom.client.trust import ClientIdentity, Proxy, Trust

__all__ = [
    "AsyncGrpcClient",
    "AsyncRestClient",
    "ClientIdentity",
    "GrpcClient",
    "Prediction",
    "Proxy",
    "RestClient",
    "Trust",
]
