"""Calls to a running server, for the tests."""

import json
import urllib.error
import urllib.request

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class Clients:
    """Stubs for a server."""

    def __init__(self, grpc_port, rest_api_port):
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(f"localhost:{grpc_port}", options=unlimited)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.url = f"http://localhost:{rest_api_port}"


def config_text(root, **models):
    """Writes a ModelServerConfig: model name to further fields, each with its directory under `root`."""
    entries = "".join(
        f"config {{ name: '{name}' base_path: '{root / name}' model_platform: 'tensorflow' {more} }}\n"
        for name, more in models.items()
    )
    return f"model_config_list {{\n{entries}}}\n"


def spec(name="half", version=None, label=None, signature=""):
    """Builds a ModelSpec; None for none at all."""
    if name is None:
        return None
    built = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        built.version.value = version
    if label is not None:
        built.version_label = label
    return built


def predict(stubs, model_spec, output_filter=(), timeout=None, **inputs):
    """Sends Predict with numpy inputs."""
    return stubs.prediction.Predict(predict_request(model_spec, output_filter, **inputs), timeout=timeout)


def predict_request(model_spec, output_filter=(), **inputs):
    """Builds a PredictRequest with numpy inputs."""
    request = predict_pb2.PredictRequest(model_spec=model_spec, output_filter=output_filter)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def post(url, body, headers=None):
    """Posts JSON (or raw bytes); returns status and the parsed answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return get(urllib.request.Request(url, data, headers or {}))


def get(url):
    """Returns status and the parsed answer."""
    try:
        with urllib.request.urlopen(url) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
