"""strongroom.v1.Confidential: the server's identity, and calls sealed to it. Both messages are plain bytes.

``Identity`` answers the identity document (JSON). ``Call`` takes a sealed request that names any unary method of this
server and answers a sealed reply, errors included: a proxy sees neither the method nor the outcome.
"""

import os
from collections.abc import Mapping
from typing import Final

import grpc

from strongroom.errors import StrongroomError
from strongroom.serving.identity import AttestedIdentity
from strongroom.serving.receipts import HEADER
from strongroom.serving.rpc.calls import CODES, Call, Caller, Method, deadline_of
from strongroom.serving.sealing import SALT_BYTES, SealedReply, open_call, seal_reply
from strongroom.serving.status import Status, status_of

SERVICE: Final = "strongroom.v1.Confidential"
RPC: Final = "RPC"


class ConfidentialService:
    """The methods of the service.

    Args:
        identity: Has the sealing key.
        caller: Answers what was inside.
        methods: Full method path to method: what may be inside.
    """

    def __init__(self, identity: AttestedIdentity, caller: Caller, methods: Mapping[str, Method]) -> None:
        self._identity = identity
        self._caller = caller
        self._methods = dict(methods)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a gRPC server is given."""
        unary = grpc.unary_unary_rpc_method_handler
        return [
            grpc.method_handlers_generic_handler(
                SERVICE, {"Identity": unary(self._identity_document), "Call": unary(self._call)}
            )
        ]

    def _identity_document(self, _body: bytes, _context: grpc.ServicerContext) -> bytes:
        return self._identity.current.document()

    def _call(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            inner, key = open_call(body, self._identity.opening_keys())
        except StrongroomError as error:
            status = Status.FAILED_PRECONDITION if error.code == "sealing.unknown_key" else status_of(error)[0]
            context.abort(CODES[int(status)], f"{error.code}: {error.message}")
            raise
        call = Call(deadline_of(context), dict(inner.headers))
        method = self._methods.get(inner.path) if inner.method == RPC else None
        if method is None:
            reply = SealedReply(int(Status.UNIMPLEMENTED), {}, b"no such method")
        else:
            status, raw = self._caller.answer(inner.path.rpartition("/")[2], method, inner.body, call)
            reply = SealedReply(int(status), {HEADER: call.receipt} if call.receipt else {}, raw)
        return seal_reply(reply, key, os.urandom(SALT_BYTES))
