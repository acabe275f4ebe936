"""From a request to the handler that knows its path, with a receipt where one is asked for."""

from collections.abc import Sequence

from strongroom.serving.http.exchange import Handler, Request, Response
from strongroom.serving.receipts import HEADER, WANTED, Receipts
from strongroom.serving.status import ModelNotFound, Refused, Status


class Dispatcher:
    """Hands each request to the first handler that knows its path.

    Args:
        handlers: In order.
        receipts: Issues receipts; None where there is no attested key.
    """

    def __init__(self, handlers: Sequence[Handler], receipts: Receipts | None) -> None:
        self._handlers = tuple(handlers)
        self._receipts = receipts

    def __call__(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            ModelNotFound: No handler knows the path.
            Refused: The request can't be served, or wants a receipt that can't be given.
        """
        wanted = request.headers.get(HEADER) == WANTED
        if wanted and self._receipts is None:
            raise Refused(Status.FAILED_PRECONDITION, "this server has no attested key to sign receipts with")
        for handler in self._handlers:
            response = handler.handle(request)
            if response is None:
                continue
            if wanted and self._receipts is not None and request.answer is not None:
                response.headers[HEADER] = self._receipts.issue(request.answer, request.body, response.body)
            return response
        raise ModelNotFound("Not Found")
