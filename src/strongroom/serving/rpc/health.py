"""grpc.health.v1.Health: serving when every configured model answers; one service name per model and API."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import grpc

from strongroom.serving.models.repository import Chosen, Repository
from strongroom.serving.rpc.calls import Call, Caller, Method
from strongroom.serving.status import ModelNotFound, Refused
from strongroom.serving.wire.grpc_services import HealthCheckRequest, HealthCheckResponse

SERVICE: Final = "grpc.health.v1.Health"
SERVING: Final = 1
NOT_SERVING: Final = 2
SERVICE_UNKNOWN: Final = 3
_WATCH_INTERVAL_S: Final = 0.25


class Health:
    """Health of the server ("" and the names of its gRPC services) and of each model (its name).

    Args:
        repository: Has the models.
        max_watchers: Streams of `Watch` at once: each holds a thread of the server.
    """

    def __init__(self, repository: Repository, max_watchers: int) -> None:
        self._max_watchers = max_watchers
        self._repository = repository
        self._services = {""}
        self._draining = False
        self._watchers = 0

    def know(self, services: Iterable[str]) -> None:
        """Answer for these gRPC services too."""
        self._services.update(services)

    def drain(self) -> None:
        """Say NOT_SERVING from now on."""
        self._draining = True

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self._draining and self._repository.ready()

    def model_ready(self, chosen: Chosen) -> bool:
        """Whether one model, or one version of it, answers."""
        try:
            self._repository.find(chosen)
        except Refused:
            return False
        return not self._draining

    def handlers(self, caller: Caller) -> list[grpc.GenericRpcHandler]:
        """What a gRPC server is given: gRPC looks for a method in each handler in turn."""
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch,
            request_deserializer=HealthCheckRequest.FromString,
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        check = Method(HealthCheckRequest, self._check, counted=False)
        return [
            caller.handler(SERVICE, {"Check": check}),
            grpc.method_handlers_generic_handler(SERVICE, {"Watch": watch}),
        ]

    def _state(self, service: str) -> int:
        if service in self._services:
            return SERVING if self.ready else NOT_SERVING
        if self._repository.knows(service):
            return SERVING if not self._draining and self._repository.versions(service) else NOT_SERVING
        return SERVICE_UNKNOWN

    def _check(self, request: Any, call: Call) -> Any:
        del call
        state = self._state(request.service)
        if state == SERVICE_UNKNOWN:
            raise ModelNotFound("unknown service")
        return HealthCheckResponse(status=state)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if self._watchers >= self._max_watchers:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")
        self._watchers += 1
        try:
            said = None
            while context.is_active() and not (self._draining and said == NOT_SERVING):
                state = self._state(request.service)
                if state != said:
                    said = state
                    yield HealthCheckResponse(status=state)
                time.sleep(_WATCH_INTERVAL_S)
        finally:
            self._watchers -= 1
