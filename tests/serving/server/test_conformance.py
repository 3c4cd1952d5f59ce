"""The wire contract's error table, over both faces of a running server."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    regression_pb2,
)

from tests.serving.server.calls import get, post, predict, spec

CODE = grpc.StatusCode


X = np.array([1.0, 2.0], np.float32)
PREDICT_ERRORS = {
    "no model_spec": (spec(None), {"x": X}, (), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
    "empty name": (spec(""), {"x": X}, (), CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    "unknown model": (spec("m"), {"x": X}, (), CODE.NOT_FOUND, "Servable not found for request: Latest(m)"),
    "unknown version": (
        spec(version=7),
        {"x": X},
        (),
        CODE.NOT_FOUND,
        "Servable not found for request: Specific(half, 7)",
    ),
    "unknown label": (
        spec(label="x"),
        {"x": X},
        (),
        CODE.INVALID_ARGUMENT,
        "Unrecognized servable version label: x",
    ),
    "unknown signature": (
        spec(signature="x"),
        {"x": X},
        (),
        CODE.FAILED_PRECONDITION,
        'Serving signature key "x" not found.',
    ),
    "extra input": (
        spec(),
        {"x": X, "z": X},
        (),
        CODE.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    "missing input": (
        spec(),
        {},
        (),
        CODE.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    "misnamed input": (
        spec(),
        {"z": X},
        (),
        CODE.INVALID_ARGUMENT,
        "input tensor alias not found in signature: z. Inputs expected to be in the set {x}. "
        "Sent extra: {z}. Missing but required: {x}.",
    ),
    "unknown output": (
        spec(),
        {"x": X},
        ("z",),
        CODE.INVALID_ARGUMENT,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "repeated output": (
        spec(),
        {"x": X},
        ("y", "y"),
        CODE.INVALID_ARGUMENT,
        "duplicate output tensor alias: y",
    ),
    "wrong dtype": (
        spec(),
        {"x": X.astype(np.int64)},
        (),
        CODE.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int64 is provided (input x)",
    ),
    "wrong rank": (
        spec(),
        {"x": X[None]},
        (),
        CODE.INVALID_ARGUMENT,
        "Input x has the wrong shape: expected [?], got [1,2]; ? stands for any size",
    ),
}


@pytest.mark.parametrize("case", PREDICT_ERRORS)
def test_predict_errors(served, case):
    model_spec, inputs, output_filter, code, message = PREDICT_ERRORS[case]
    with pytest.raises(grpc.RpcError) as caught:
        predict(served, model_spec, output_filter, **inputs)
    assert (caught.value.code(), caught.value.details()) == (code, message)
    np.testing.assert_allclose(tf.make_ndarray(predict(served, spec(), x=X).outputs["y"]), X / 2 + 3)


@pytest.mark.parametrize(
    ("model_spec", "fields", "code", "message"),
    [
        (spec(None), ["signature_def"], CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (spec(""), ["signature_def"], CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (spec("m"), ["signature_def"], CODE.NOT_FOUND, "Servable not found for request: Latest(m)"),
        (spec(version=7), ["signature_def"], CODE.NOT_FOUND, "Servable not found for request: Specific(half, 7)"),
        (spec(), ["X"], CODE.INVALID_ARGUMENT, "Metadata field X is not supported"),
        (
            spec(),
            [],
            CODE.INVALID_ARGUMENT,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
    ],
)
def test_metadata_errors(served, model_spec, fields, code, message):
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec, metadata_field=fields)
    with pytest.raises(grpc.RpcError) as caught:
        served.prediction.GetModelMetadata(request)
    assert (caught.value.code(), caught.value.details()) == (code, message)


@pytest.mark.parametrize(
    ("model_spec", "code", "message"),
    [
        (spec(None), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (spec(""), CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (spec("m"), CODE.NOT_FOUND, "Could not find any versions of model m"),
        (spec(version=7), CODE.NOT_FOUND, "Could not find version 7 of model half"),
        (spec(label="x"), CODE.INVALID_ARGUMENT, "Unrecognized servable version label: x"),
    ],
)
def test_status_errors(served, model_spec, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        served.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec))
    assert (caught.value.code(), caught.value.details()) == (code, message)


@pytest.mark.parametrize(
    ("model_spec", "values", "code", "message"),
    [
        (spec(None), [1.0], CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (spec("m"), [1.0], CODE.NOT_FOUND, "Servable not found for request: Latest(m)"),
        (spec("examples", signature="x"), [1.0], CODE.INVALID_ARGUMENT, "No signature was found with the name: x"),
        (spec("examples", signature="{own}"), [], CODE.INVALID_ARGUMENT, "Input is empty."),
    ],
)
@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_example_errors(served, method, model_spec, values, code, message):
    kind = {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
    }[method]
    request = kind(model_spec=model_spec)
    if request.model_spec.signature_name == "{own}":
        request.model_spec.signature_name = method.lower()
    for value in values:
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    with pytest.raises(grpc.RpcError) as caught:
        getattr(served.prediction, method)(request)
    assert (caught.value.code(), caught.value.details()) == (code, message)


REST_ERRORS = {
    "unknown model": ("m:predict", {"instances": [1.0]}, 404, "Servable not found for request: Latest(m)"),
    "unknown version": (
        "half/versions/7:predict",
        {"instances": [1.0]},
        404,
        "Servable not found for request: Specific(half, 7)",
    ),
    "unknown label": (
        "half/labels/x:predict",
        {"instances": [1.0]},
        400,
        "Unrecognized servable version label: x",
    ),
    "unknown signature": (
        "half:predict",
        {"signature_name": "x", "instances": [1.0]},
        400,
        'Serving signature name: "x" not found in signature def',
    ),
    "signature is no text": (
        "half:predict",
        {"signature_name": 1},
        400,
        "'signature_name' key must be a string value.",
    ),
    "unknown classify signature": (
        "examples:classify",
        {"signature_name": "x", "examples": [{"x": 1.0}]},
        400,
        "No signature was found with the name: x",
    ),
    "both forms": (
        "half:predict",
        {"instances": [1.0], "inputs": [1.0]},
        400,
        "expecting only one of 'inputs' or 'instances' keys to exist",
    ),
    "neither form": ("half:predict", {"x": 1}, 400, "Missing 'inputs' or 'instances' key"),
    "no instances": ("half:predict", {"instances": []}, 400, "No values in 'instances' array"),
    "wrong type": ("half:predict", {"instances": ["x"]}, 400, 'JSON Value: "x" Type: String is not of expected type'),
    "bool is no number": ("half:predict", {"instances": [True]}, 400, "Type: Bool is not of expected type: float"),
    "null": ("half:predict", {"instances": [None]}, 400, "Type: Null is not of expected type: float"),
    "precision": ("half:predict", {"instances": [16777217]}, 400, "to float without loss of precision"),
    "too large": ("half:predict", {"instances": [1e39]}, 400, "to float without loss of precision"),
    "ragged": ("half:predict", {"instances": [[1.0], [1.0, 2.0]]}, 400, "Expecting tensor size: 1 but got: 2"),
    "uneven depth": ("half:predict", {"instances": [1.0, [2.0]]}, 400, "Encountered list at unexpected level"),
    "unnamed inputs": (
        "half:predict",
        {"signature_name": "both", "instances": [1.0]},
        400,
        "instances is a plain list, but expecting list of objects",
    ),
    "missing name": (
        "half:predict",
        {"signature_name": "both", "inputs": {"a": [1.0]}},
        400,
        "Missing named input: b in 'inputs' object.",
    ),
    "fraction for an integer": (
        "half:predict",
        {"signature_name": "both", "inputs": {"a": [1.0], "b": [[1.5, 2]]}},
        400,
        "Type: Number is not of expected type: int64",
    ),
    "no examples": (
        "examples:classify",
        {"signature_name": "classify"},
        400,
        "key 'examples' is expected and was not found",
    ),
    "not JSON": ("half:predict", b"{]", 400, "JSON Parse error"),
    "not UTF-8": ("half:predict", b'{"instances": ["\xff"]}', 400, "JSON Parse error"),
    "empty body": ("half:predict", b" ", 400, "JSON Parse error"),
    "not an object": ("half:predict", [1], 400, "Is not object"),
    "deep": ("half:predict", b'{"instances":' + b"[" * 100_000, 400, "JSON Parse error"),
    "bad base64": ("text:predict", {"instances": [{"b64": "###"}]}, 400, "Unable to base64 decode"),
    "web-safe base64": ("text:predict", {"instances": [{"b64": "_-__"}]}, 400, "the standard alphabet"),
    "malformed": ("half:guess", {"instances": [1.0]}, 400, "Malformed request: POST /v1/models/half:guess"),
    "version too large": (
        "half/versions/99999999999999999999:predict",
        {"instances": [1.0]},
        400,
        "Failed to convert version: 99999999999999999999 to numeric.",
    ),
}


@pytest.mark.parametrize("case", REST_ERRORS)
def test_rest_errors(served, case):
    path, body, status, message = REST_ERRORS[case]
    code, answer = post(f"{served.url}/v1/models/{path}", body)
    assert code == status, answer
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert post(f"{served.url}/v1/models/half:predict", {"instances": [1.0]}) == (200, {"predictions": [3.5]})


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/m", 404, "Could not find any versions of model m"),
        ("/v1/models/half/versions/7", 404, "Could not find version 7 of model half"),
        ("/v1/models/m/metadata", 404, "Servable not found for request: Latest(m)"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/nothing", 400, "Malformed request: GET /v1/nothing"),
        ("/nothing", 404, "Not Found"),
        ("/monitoring/prometheus/metrics", 404, "Not Found"),
    ],
)
def test_rest_get_errors(served, path, status, message):
    code, answer = get(served.url + path)
    assert code == status
    assert message in answer["error"]


def test_error_message_is_cut_at_1024_characters(served):
    with pytest.raises(grpc.RpcError) as caught:
        predict(served, spec("m" * 2000), x=X)
    details = caught.value.details()
    assert details.startswith("Servable not found for request: Latest(mmm")
    assert details.endswith("...TRUNCATED")
    assert len(details) == 1024 + len("...TRUNCATED")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tasks: tasks[1].model_spec.__setattr__("signature_name", "classify"),
            "Duplicate evaluation of signature",
        ),
        (lambda tasks: tasks[1].model_spec.__setattr__("name", "half"), "must access the same model name"),
        (lambda tasks: tasks[1].model_spec.__setattr__("name", ""), "Found ModelSpec with an empty model name."),
        (
            lambda tasks: tasks[1].model_spec.__setattr__("signature_name", "x"),
            "Requested signature not found in model",
        ),
        (lambda tasks: tasks[1].__setattr__("method_name", "x"), "Unsupported signature method_name: x"),
    ],
)
def test_multi_inference_errors(served, change, message):
    request = inference_pb2.MultiInferenceRequest()
    for method in ("classify", "regress"):
        request.tasks.add(model_spec=spec("examples", signature=method), method_name=f"tensorflow/serving/{method}")
    request.input.example_list.examples.add()
    change(request.tasks)
    with pytest.raises(grpc.RpcError) as caught:
        served.prediction.MultiInference(request)
    assert message in caught.value.details()
