"""Calls in REST's form: a path, and JSON in both directions."""

import base64
import json
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
import numpy as np

from keras_mobilenet.client.calls import Call, Classify, GetMetadata, GetStatus, Model, Predict, Reload
from keras_mobilenet.client.errors import ClientError
from keras_mobilenet.client.model_info import (
    Classification,
    ModelMetadata,
    Outputs,
    TensorSpec,
    VersionStatus,
    parse_signatures,
    parse_status,
)
from keras_mobilenet.wire import dtypes, message_class

# The server's table from gRPC codes to HTTP, read backwards; what stands for several codes is the commonest.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Request(NamedTuple):
    """An HTTP request below the server's address."""

    method: str
    path: str
    body: bytes | None


def encode(call: Call, target: str) -> Request:
    """The HTTP request of a call.

    Raises:
        ClientError: REST has no such request.
    """
    match call:
        case Predict():
            inputs = {name: _to_json(array) for name, array in call.inputs.items()}
            return _post(call.model, "predict", signature_name=call.signature_name, inputs=inputs)
        case Classify():
            examples = [{name: _feature(values) for name, values in example.items()} for example in call.examples]
            return _post(call.model, "classify", signature_name=call.signature_name, examples=examples)
        case GetMetadata():
            return Request("GET", f"{_path(call.model)}/metadata", None)
        case GetStatus():
            return Request("GET", _path(call.model), None)
        case Reload():
            text = "TF Serving reloads its configuration over gRPC only; use a client without rest=True."
            raise ClientError(grpc.StatusCode.UNIMPLEMENTED, text, target)


def _path(model: Model) -> str:
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        return f"{path}/versions/{model.version}"
    return f"{path}/labels/{quote(model.label, safe='')}" if model.label is not None else path


def _post(model: Model, verb: str, **fields: Any) -> Request:
    return Request("POST", f"{_path(model)}:{verb}", json.dumps(fields).encode())


def _to_json(array: np.ndarray) -> Any:
    if array.dtype.kind in "SUO":
        return _map_leaves(array.tolist(), lambda value: _b64(value.encode() if isinstance(value, str) else value))
    if array.dtype.isbuiltin != 1:  # types of ml_dtypes: JSON takes plain numbers only
        array = array.astype(np.int8 if "int" in array.dtype.name else np.float32)
    return array.tolist()


def _feature(values: list[Any]) -> Any:
    coded = [_b64(value) if isinstance(value, bytes) else value for value in values]
    return coded[0] if len(coded) == 1 else coded


def _b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _map_leaves(value: Any, change: Any) -> Any:
    return [_map_leaves(item, change) for item in value] if isinstance(value, list) else change(value)


def decode(call: Call, status: int, body: bytes, target: str) -> Any:
    """What an HTTP response says.

    Raises:
        ClientError: the server's error, or an answer that is not TF Serving's.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status != 200:
        raise ClientError(_CODES.get(status, grpc.StatusCode.UNKNOWN), _error_text(status, answer, body), target)
    try:
        return _result(call, answer)
    except (TypeError, ValueError, LookupError, AttributeError) as problem:
        text = f"the answer is not TF Serving's ({problem!r}): {body[:200]!r}"
        raise ClientError(grpc.StatusCode.INTERNAL, text, target) from problem


def _error_text(status: int, answer: Any, body: bytes) -> str:
    if isinstance(answer, dict) and "error" in answer:
        return str(answer["error"])
    start = body[:200].decode(errors="replace")
    return f"HTTP {status} without TF Serving's error text; is this its REST port? {start}".strip()


def _result(call: Call, answer: Any) -> Any:
    match call:
        case Predict():
            return _outputs(call, answer["outputs"])
        case Classify():
            return [
                [Classification(str(label), float(score)) for label, score in result] for result in answer["results"]
            ]
        case GetMetadata():
            return _metadata(answer)
        case GetStatus():
            return _status(answer)
    raise TypeError(f"no answer is expected to {call}")


def _outputs(call: Predict, found: Any) -> Outputs:
    specs = call.signature.outputs
    # The server gives the one output of a signature without its name.
    named = {next(iter(specs)): found} if len(specs) == 1 else found
    wanted = call.outputs or sorted(named)
    arrays = {name: _to_array(named[name], specs.get(name)) for name in wanted}
    return Outputs(arrays, call.model.name, call.signature_name, None)


def _to_array(value: Any, spec: TensorSpec | None) -> np.ndarray:
    if spec is None:
        return np.array(value)
    if spec.dtype == "string":
        return np.array(_map_leaves(value, _from_text), dtype=object)
    try:
        return np.array(value, dtype=dtypes.numpy_dtype(spec.dtype))
    except TypeError:
        if spec.dtype != "bfloat16":
            raise
        return np.array(value, dtype=np.float32)


def _from_text(value: Any) -> bytes:
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


def _metadata(answer: Any) -> ModelMetadata:
    from google.protobuf import json_format

    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    found = {"signature_def": answer["metadata"]["signature_def"]["signature_def"]}
    json_format.ParseDict(found, signatures, ignore_unknown_fields=True)
    spec = answer["model_spec"]
    return ModelMetadata(spec["name"], int(spec["version"]), parse_signatures(signatures))


def _status(answer: Any) -> list[VersionStatus]:
    from google.protobuf import json_format

    response = message_class("tensorflow.serving.GetModelStatusResponse")()
    return parse_status(json_format.ParseDict(answer, response, ignore_unknown_fields=True))
