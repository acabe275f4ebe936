"""TensorFlow Serving's REST API (tensorflow.org/tfx/serving/api_rest; model_servers/http_rest_api_util.cc)."""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf import json_format

from strongroom.serving.engines import Signature
from strongroom.serving.http.exchange import Request, Response, json_response
from strongroom.serving.inference import Inference
from strongroom.serving.models.repository import Chosen
from strongroom.serving.rpc.messages import SIGNATURE_DEF, signature_map, status_response
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.examples import input_from_json
from strongroom.serving.tensors.json_rows import (
    inputs_from_document,
    outputs_as_columns,
    outputs_as_rows,
)
from strongroom.serving.tensors.json_values import parse_json

_MODEL: Final = r"/v1/models/([^/:]+)(?:/versions/(\d{1,18})|/labels/([^/:]+))?"
_ASK: Final = re.compile(_MODEL + r":(classify|regress|predict)", re.IGNORECASE)
_LOOK: Final = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
PREFIX: Final = "/v1/models"


class TensorFlowRest:
    """``/v1/models/...``.

    Args:
        inference: The use cases.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def handle(self, request: Request) -> Response | None:
        """Answer what is below ``/v1/models``.

        Raises:
            InvalidRequest: Malformed, or the model can't answer.
        """
        if not request.path.lower().startswith(PREFIX):
            return None
        if request.method == "POST" and (match := _ASK.fullmatch(request.path)):
            request.api = match[4].lower()
            return self._ask(request, self._chosen(request, match), match[4].lower())
        if request.method == "GET" and (match := _LOOK.fullmatch(request.path)):
            request.api = "metadata" if match[4] else "status"
            chosen = self._chosen(request, match)
            return self._metadata(chosen) if match[4] else self._status(chosen)
        raise InvalidRequest(f"Malformed request: {request.method} {request.path[:200]}")

    def _chosen(self, request: Request, match: re.Match[str]) -> Chosen:
        name = unquote(match[1])
        request.model = self._inference.repository.known(name)
        return Chosen(name, int(match[2]) if match[2] else None, unquote(match[3] or ""))

    def _ask(self, request: Request, chosen: Chosen, method: str) -> Response:
        document = parse_json(request.body)
        if not isinstance(document, dict):
            raise InvalidRequest("the JSON document is not an object")
        signature = document.get("signature_name", "")
        if not isinstance(signature, str):
            raise InvalidRequest("'signature_name' key must be a string value")
        asked: dict[str, Callable[..., Any]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
        }
        return json_response(asked[method](chosen, signature, document, request))

    def _predict(self, chosen: Chosen, name: str, document: dict[str, Any], request: Request) -> Any:
        signature: Signature = self._inference.signature(chosen, name)
        inputs, in_rows = inputs_from_document(document, signature)
        request.answer = answer = self._inference.predict(chosen, name, inputs, (), request.deadline)
        return outputs_as_rows(answer.outputs) if in_rows else outputs_as_columns(answer.outputs)

    def _classify(self, chosen: Chosen, name: str, document: dict[str, Any], request: Request) -> Any:
        classes = self._inference.classify(chosen, name, input_from_json(document), request.deadline)
        request.answer = classes.answer
        return {"results": classes.rows}

    def _regress(self, chosen: Chosen, name: str, document: dict[str, Any], request: Request) -> Any:
        values = self._inference.regress(chosen, name, input_from_json(document), request.deadline)
        request.answer = values.answer
        return {"results": values.rows}

    def _status(self, chosen: Chosen) -> Response:
        return _message_response(status_response(self._inference.repository.status(chosen)))

    def _metadata(self, chosen: Chosen) -> Response:
        found = self._inference.repository.find(chosen)
        signatures = _as_json(signature_map(found.signatures))
        spec = {"name": found.model, "signature_name": "", "version": str(found.version)}
        return json_response({"model_spec": spec, "metadata": {SIGNATURE_DEF: signatures}})


def _message_response(message: Any) -> Response:
    return json_response(_as_json(message))


def _as_json(message: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return plain
