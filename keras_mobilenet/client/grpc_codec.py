"""Calls in gRPC's form."""

from typing import Any

import grpc
import numpy as np

from keras_mobilenet.client.calls import Call, Classify, GetMetadata, GetStatus, Model, Predict, Reload
from keras_mobilenet.client.errors import ClientError
from keras_mobilenet.client.model_info import (
    Classification,
    ModelMetadata,
    Outputs,
    parse_signatures,
    parse_status,
)
from keras_mobilenet.wire import POOL, message_class, to_array, write_tensor

_METHODS = {
    Predict: ("tensorflow.serving.PredictionService", "Predict"),
    Classify: ("tensorflow.serving.PredictionService", "Classify"),
    GetMetadata: ("tensorflow.serving.PredictionService", "GetModelMetadata"),
    GetStatus: ("tensorflow.serving.ModelService", "GetModelStatus"),
    Reload: ("tensorflow.serving.ModelService", "HandleReloadConfigRequest"),
}

# How gRPC words a connection that could not be made, as against a server that says UNAVAILABLE.
_NO_CONNECTION = ("connect", "resolution", "resolve", "socket closed", "handshake", "http1.x")

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def stubs(channel: Any) -> dict[type, Any]:
    """A callable for each kind of call, on a channel of grpc or grpc.aio."""
    return {kind: _stub(channel, service, method) for kind, (service, method) in _METHODS.items()}


def _stub(channel: Any, service: str, method: str) -> Any:
    described = POOL.FindServiceByName(service).methods_by_name[method]
    return channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=message_class(described.input_type.full_name).SerializeToString,
        response_deserializer=message_class(described.output_type.full_name).FromString,
    )


def encode(call: Call) -> Any:
    """The request message of a call."""
    match call:
        case Predict():
            return _predict_request(call)
        case Classify():
            return _classify_request(call)
        case GetMetadata():
            kind = message_class("tensorflow.serving.GetModelMetadataRequest")
            return kind(model_spec=_model_spec(call.model), metadata_field=["signature_def"])
        case GetStatus():
            return message_class("tensorflow.serving.GetModelStatusRequest")(model_spec=_model_spec(call.model))
        case Reload():
            return message_class("tensorflow.serving.ReloadConfigRequest")(config=call.config)


def _model_spec(model: Model, signature_name: str = "") -> Any:
    spec = message_class("tensorflow.serving.ModelSpec")(name=model.name, signature_name=signature_name)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None:
        spec.version_label = model.label
    return spec


def _predict_request(call: Predict) -> Any:
    request = message_class("tensorflow.serving.PredictRequest")(
        model_spec=_model_spec(call.model, call.signature_name), output_filter=call.outputs
    )
    for name, array in call.inputs.items():
        write_tensor(request.inputs[name], array, call.signature.inputs[name].dtype)
    return request


def _classify_request(call: Classify) -> Any:
    request = message_class("tensorflow.serving.ClassificationRequest")(
        model_spec=_model_spec(call.model, call.signature_name)
    )
    for features in call.examples:
        example = request.input.example_list.examples.add()
        for name, values in features.items():
            feature = example.features.feature[name]
            if all(isinstance(value, bytes) for value in values):
                feature.bytes_list.value.extend(values)
            elif all(isinstance(value, int) for value in values):
                feature.int64_list.value.extend(values)
            else:
                feature.float_list.value.extend(values)
    return request


def decode(call: Call, response: Any, target: str) -> Any:
    """What a response message says.

    Raises:
        ClientError: the answer of a reload is an error, or a tensor has no NumPy form.
    """
    match call:
        case Predict():
            spec = response.model_spec
            return Outputs(_arrays(response, target), spec.name or call.model.name, call.signature_name, _version(spec))
        case Classify():
            return [
                [Classification(entry.label, entry.score) for entry in result.classes]
                for result in response.result.classifications
            ]
        case GetMetadata():
            return _metadata(call, response)
        case GetStatus():
            return parse_status(response)
        case Reload():
            if response.status.error_code:
                code = _CODES.get(response.status.error_code, grpc.StatusCode.UNKNOWN)
                raise ClientError(code, response.status.error_message, target)
            return None


def _arrays(response: Any, target: str) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in sorted(response.outputs.items()):
        try:
            arrays[name] = to_array(tensor)
        except (TypeError, ValueError) as problem:
            text = f"output {name!r} cannot be read: {problem}"
            raise ClientError(grpc.StatusCode.INTERNAL, text, target) from problem
    return arrays


def _version(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _metadata(call: GetMetadata, response: Any) -> ModelMetadata:
    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    response.metadata["signature_def"].Unpack(signatures)
    spec = response.model_spec
    return ModelMetadata(spec.name or call.model.name, _version(spec), parse_signatures(signatures))


def error(problem: Any, target: str, timeout: float) -> ClientError:
    """A failed call of gRPC in the client's terms.

    Args:
        problem: a `grpc.RpcError`.
        target: the addresses.
        timeout: the seconds that the call was given.
    """
    code, details = problem.code(), problem.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and any(mark in details.lower() for mark in _NO_CONNECTION):
        question = "is it running, and is this its gRPC port (for the REST port: rest=True)?"
        details = f"no gRPC server answers there; {question} {details}"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        details = f"no answer within {timeout:.3g} s; raise timeout= if the server needs longer. {details}"
    return ClientError(code, details, target)
