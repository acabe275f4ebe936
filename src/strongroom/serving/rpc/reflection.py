"""gRPC server reflection, v1 and v1alpha: which services there are and what their messages look like."""

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.protobuf.descriptor import FileDescriptor

from strongroom.serving.status import Status
from strongroom.serving.wire.describe import POOL
from strongroom.serving.wire.grpc_services import REFLECTION

MAX_REQUESTS: Final = 100


class Reflection:
    """Answers from our own descriptor pool.

    Args:
        services: Full names of the services.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = services

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a gRPC server is given."""
        return [
            grpc.method_handlers_generic_handler(
                f"{package}.ServerReflection",
                {
                    "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                        self._answers(classes["ServerReflectionResponse"]),
                        request_deserializer=classes["ServerReflectionRequest"].FromString,
                        response_serializer=classes["ServerReflectionResponse"].SerializeToString,
                    )
                },
            )
            for package, classes in REFLECTION.items()
        ]

    def _answers(self, response_class: Any) -> Any:
        def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            for number, request in enumerate(requests):
                if number >= MAX_REQUESTS:
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests in one stream")
                yield self._answer(request, response_class())

        return stream

    def _answer(self, request: Any, response: Any) -> Any:
        response.valid_host = request.host
        response.original_request.CopyFrom(request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            response.list_services_response.SetInParent()
            for name in sorted(self._services):
                response.list_services_response.service.add(name=name)
            return response
        try:
            files = _files(kind, request)
        except KeyError:
            response.error_response.error_code = int(Status.NOT_FOUND)
            response.error_response.error_message = "not found"
            return response
        response.file_descriptor_response.file_descriptor_proto.extend(files)
        return response


def _files(kind: str | None, request: Any) -> list[bytes]:
    """A file and everything it imports, serialized.

    Raises:
        KeyError: Nothing of that name, or a question we have no answer to.
    """
    pool: Any = POOL
    if kind == "file_by_filename":
        first = pool.FindFileByName(request.file_by_filename)
    elif kind == "file_containing_symbol":
        first = _file_of(pool, request.file_containing_symbol)
    else:
        raise KeyError
    found: dict[str, FileDescriptor] = {}
    waiting = [first]
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = file
            waiting.extend(file.dependencies)
    return [file.serialized_pb for file in found.values()]


def _file_of(pool: Any, symbol: str) -> Any:
    """The file of a message, an enum, a service, or of a service's method, which the pool doesn't know by itself.

    Raises:
        KeyError: No such symbol.
    """
    try:
        return pool.FindFileContainingSymbol(symbol)
    except KeyError:
        service, _, method = symbol.rpartition(".")
        return pool.FindServiceByName(service).methods_by_name[method].containing_service.file
