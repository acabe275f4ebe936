"""The Open Inference Protocol V2 over REST, with its binary tensor data extension."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import unquote

from strongroom import __version__
from strongroom.serving.http.exchange import Request, Response, json_response
from strongroom.serving.inference import Answer, Inference
from strongroom.serving.models.repository import Chosen
from strongroom.serving.rpc.health import Health
from strongroom.serving.status import InvalidRequest, ModelNotFound
from strongroom.serving.tensors.dtypes import Array, dtype_of
from strongroom.serving.tensors.json_values import parse_json, render_json
from strongroom.serving.tensors.v2 import from_json, from_raw, to_json, to_raw
from strongroom.serving.v2 import SERVER_NAME, chosen_version, model_metadata, signature_parameter

PREFIX: Final = "/v2"
BINARY_HEADER: Final = "inference-header-content-length"
BINARY_SIZE: Final = "binary_data_size"
_MODEL: Final = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")


class InferenceV2Rest:
    """``/v2/...``.

    Args:
        inference: The use cases.
        health: Says what is ready.
    """

    def __init__(self, inference: Inference, health: Health) -> None:
        self._inference = inference
        self._health = health

    def handle(self, request: Request) -> Response | None:
        """Answer what is below ``/v2``.

        Raises:
            InvalidRequest: Malformed.
            Refused: The model can't answer.
            ModelNotFound: No such path.
        """
        if request.path != PREFIX and not request.path.startswith(PREFIX + "/"):
            return None
        if request.method == "GET" and (response := self._server(request.path.rstrip("/"))):
            return response
        match = _MODEL.fullmatch(request.path)
        if match is None:
            raise ModelNotFound("Not Found")
        chosen = chosen_version(unquote(match[1]), match[2] or "")
        request.model = self._inference.repository.known(chosen.name)
        if request.method == "POST" and match[3] == "infer":
            request.api = "infer"
            return self._infer(request, chosen)
        if request.method == "GET" and match[3] != "infer":
            request.api = match[3] or "metadata"
            return self._look(chosen, ready=match[3] == "ready")
        raise InvalidRequest(f"{request.method} is not served here")

    def _server(self, path: str) -> Response | None:
        if path == "/v2":
            return json_response({"name": SERVER_NAME, "version": __version__, "extensions": ["binary_tensor_data"]})
        if path == "/v2/health/live":
            return json_response({"live": True})
        if path == "/v2/health/ready":
            ready = self._health.ready
            return json_response({"ready": ready}, 200 if ready else 503)
        return None

    def _look(self, chosen: Chosen, *, ready: bool) -> Response:
        if not ready:
            return json_response(asdict(model_metadata(self._inference.repository, chosen)))
        answers = self._health.model_ready(chosen)
        return json_response({"name": chosen.name, "ready": answers}, 200 if answers else 503)

    def _infer(self, request: Request, chosen: Chosen) -> Response:
        document, binary = _split(request)
        parameters = _object(document, "parameters")
        outputs = _entries(document, "outputs", required=False)
        request.answer = answer = self._inference.predict(
            chosen,
            signature_parameter(parameters),
            _inputs(_entries(document, "inputs", required=True), binary),
            tuple(_name(output) for output in outputs),
            request.deadline,
        )
        by_default = parameters.get("binary_data_output") is True
        wanted = {_name(output): _object(output, "parameters").get("binary_data", by_default) for output in outputs}
        return _response(answer, document.get("id"), {name: wanted.get(name, by_default) for name in answer.outputs})


def _split(request: Request) -> tuple[dict[str, Any], memoryview]:
    """The JSON part and the binary part.

    Raises:
        InvalidRequest: Not JSON, or a length that is none.
    """
    given = request.headers.get(BINARY_HEADER)
    length = len(request.body)
    if given is not None:
        if not (given.isascii() and given.isdigit()) or int(given[:12]) > length:
            raise InvalidRequest("Inference-Header-Content-Length does not fit the body")
        length = int(given)
    document = parse_json(request.body[:length])
    if not isinstance(document, dict):
        raise InvalidRequest("the request is not a JSON object")
    return document, memoryview(request.body)[length:]


def _inputs(entries: list[dict[str, Any]], binary: memoryview) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for entry in entries:
        name, shape, datatype = _name(entry), entry.get("shape"), entry.get("datatype")
        if name in arrays:
            raise InvalidRequest(f"the input {name[:200]!r} is given twice")
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise InvalidRequest("an input needs a shape: a list of whole numbers")
        if not isinstance(datatype, str):
            raise InvalidRequest("an input needs a datatype")
        size = _object(entry, "parameters").get(BINARY_SIZE)
        if size is None:
            arrays[name] = from_json(datatype, shape, entry.get("data"))
            continue
        if type(size) is not int or not 0 <= size <= len(binary) or "data" in entry:
            raise InvalidRequest("binary_data_size does not fit the body")
        arrays[name] = from_raw(datatype, shape, binary[:size])
        binary = binary[size:]
    if len(binary):
        raise InvalidRequest("the body goes on after the last binary tensor")
    return arrays


def _response(answer: Answer, request_id: Any, binary: Mapping[str, Any]) -> Response:
    document: dict[str, Any] = {"model_name": answer.model, "model_version": str(answer.version)}
    if isinstance(request_id, str):
        document["id"] = request_id
    parts: list[bytes] = []
    document["outputs"] = []
    for name, array in answer.outputs.items():
        entry: dict[str, Any] = {"name": name, "datatype": dtype_of(array).v2, "shape": list(array.shape)}
        if binary[name] is True:
            parts.append(to_raw(array))
            entry["parameters"] = {BINARY_SIZE: len(parts[-1])}
        else:
            entry["data"] = to_json(array)
        document["outputs"].append(entry)
    if not parts:
        return json_response(document)
    head = render_json(document)
    return Response(
        b"".join((head, *parts)), content_type="application/octet-stream", headers={BINARY_HEADER: str(len(head))}
    )


def _entries(document: Mapping[str, Any], key: str, *, required: bool) -> list[dict[str, Any]]:
    entries = document.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidRequest(f"{key} must be a list of objects")
    if required and not entries:
        raise InvalidRequest(f"{key} is missing or empty")
    return entries


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key, {})
    if not isinstance(value, dict):
        raise InvalidRequest(f"{key} must be an object")
    return value


def _name(entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("a tensor needs a name")
    return name
