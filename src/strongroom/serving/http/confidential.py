"""The server's identity and requests sealed to it, over REST.

GET  /strongroom/v1/identity   the identity document
POST /strongroom/v1/sealed     a sealed request that names any path of this server; answers a sealed reply
"""

import os
from collections.abc import Callable
from typing import Final

from strongroom.errors import VerificationError
from strongroom.serving.http.exchange import Request, Response, error_response
from strongroom.serving.identity import AttestedIdentity
from strongroom.serving.sealing import SALT_BYTES, SealedReply, open_call, seal_reply
from strongroom.serving.status import Refused, Status, status_of

IDENTITY: Final = "/strongroom/v1/identity"
SEALED: Final = "/strongroom/v1/sealed"
MEDIA_TYPE: Final = "application/vnd.strongroom.sealed"

Dispatch = Callable[[Request], Response]


class ConfidentialRest:
    """Both paths.

    Args:
        identity: Has the sealing key.
        dispatch: Answers what was inside.
    """

    def __init__(self, identity: AttestedIdentity, dispatch: Dispatch) -> None:
        self._identity = identity
        self._dispatch = dispatch

    def handle(self, request: Request) -> Response | None:
        """Answer the two paths.

        Raises:
            Refused: It is sealed to a key this server no longer has.
            FormatError: Not a sealed request.
        """
        if request.path == IDENTITY and request.method == "GET":
            return Response(self._identity.current.document())
        if request.path != SEALED or request.method != "POST":
            return None
        try:
            call, key = open_call(request.body, self._identity.opening_keys())
        except VerificationError as error:
            status = Status.FAILED_PRECONDITION if error.code == "sealing.unknown_key" else Status.INVALID_ARGUMENT
            raise Refused(status, f"{error.code}: {error.message}") from None
        request.api = "sealed"
        inner = Request(call.method, call.path, call.headers, call.body, request.deadline)
        answered = self._answer(inner)
        request.model = inner.model
        headers = {**answered.headers, "content-type": answered.content_type}
        reply = SealedReply(answered.status, headers, answered.body)
        return Response(seal_reply(reply, key, os.urandom(SALT_BYTES)), content_type=MEDIA_TYPE)

    def _answer(self, inner: Request) -> Response:
        """The answer to what was inside; a refusal is sealed like any other answer."""
        try:
            return self._dispatch(inner)
        except Exception as error:
            return error_response(*status_of(error))
