"""What a running server answers, over both faces."""

import gzip
import json
import math
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.serving.server import tiny_models
from tests.serving.server.calls import get, post, predict, spec

X = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("model_spec", "version", "offset"),
    [(spec(), 124, 3), (spec(version=123), 123, 2), (spec(label="stable"), 123, 2)],
)
def test_predict_fills_model_spec_and_typed_fields(served, model_spec, version, offset):
    response = predict(served, model_spec, x=X)
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", version)
    assert response.model_spec.signature_name == "serving_default"
    assert list(response.outputs) == ["y"]
    assert response.outputs["y"].tensor_content == b""
    np.testing.assert_array_equal(response.outputs["y"].float_val, X / 2 + offset)


def test_predict_with_several_inputs_and_an_output_filter(served):
    inputs = {"a": X, "b": np.array([[1, 2], [3, 4]], np.int64)}
    both = predict(served, spec(signature="both"), **inputs)
    assert sorted(both.outputs) == ["b_twice", "sum"]
    np.testing.assert_array_equal(tf.make_ndarray(both.outputs["sum"]), [4, 9])
    one = predict(served, spec(signature="both"), ["b_twice"], **inputs)
    assert list(one.outputs) == ["b_twice"]
    np.testing.assert_array_equal(tf.make_ndarray(one.outputs["b_twice"]), [[2, 4], [6, 8]])
    assert one.outputs["b_twice"].int64_val == [2, 4, 6, 8]


@pytest.mark.parametrize("name", tiny_models.DTYPES)
def test_every_dtype_comes_back_as_it_went(echoes, name):
    _, value = tiny_models.DTYPES[name]
    for given in (value, value[:, :0], value[0, 0].reshape(()) if name != "string" else np.array(b"one", object)):
        response = predict(echoes, spec(name), x=given)
        returned = tf.make_ndarray(response.outputs["y"])
        assert returned.dtype == given.dtype
        np.testing.assert_array_equal(returned, given)


@pytest.mark.parametrize("name", [name for name in tiny_models.DTYPES if name != "string"])
def test_typed_fields_are_read_as_tensorflow_reads_them(echoes, name):
    dtype, value = tiny_models.DTYPES[name]
    typed = predict(echoes, spec(name), x=value).outputs["y"]
    request = predict_pb2.PredictRequest(model_spec=spec(name))
    request.inputs["x"].CopyFrom(typed)
    request.inputs["x"].tensor_shape.dim[1].size = 4
    returned = tf.make_ndarray(echoes.prediction.Predict(request).outputs["y"])
    last = value[0, 1]
    np.testing.assert_array_equal(returned, [[value[0, 0], last, last, last]])
    request = predict_pb2.PredictRequest(model_spec=spec(name))
    request.inputs["x"].dtype = dtype.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=3)
    np.testing.assert_array_equal(
        tf.make_ndarray(echoes.prediction.Predict(request).outputs["y"]), np.zeros(3, value.dtype)
    )


def test_tensor_content_on_demand(start, tmp_path):
    tiny_models.half_plus_two(tmp_path / "1")
    clients = start(model_base_path=str(tmp_path), model_name="half", enable_serialization_as_tensor_content=True)
    output = predict(clients, spec(), x=X).outputs["y"]
    assert not output.float_val
    assert output.tensor_content == (X / 2 + 2).tobytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.tensor_shape.dim[0].__setattr__("size", 3), "takes 12 bytes, tensor_content has 8"),
        (lambda x: x.tensor_shape.dim[0].__setattr__("size", -2), "negative size"),
        (lambda x: x.tensor_shape.__setattr__("unknown_rank", True), "unknown rank"),
        (lambda x: x.tensor_shape.dim.extend([x.tensor_shape.dim[0]] * 40), "at most 32 are allowed"),
    ],
)
def test_tensors_that_do_not_parse(served, change, reason):
    request = predict_pb2.PredictRequest(model_spec=spec())
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(X))
    assert request.inputs["x"].tensor_content
    change(request.inputs["x"])
    with pytest.raises(grpc.RpcError) as caught:
        served.prediction.Predict(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("tensor parsing error: x")
    assert reason in caught.value.details()


def test_a_few_bytes_cannot_ask_for_all_memory(served):
    request = predict_pb2.PredictRequest(model_spec=spec())
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=2**40)
    request.inputs["x"].float_val.append(1.0)
    with pytest.raises(grpc.RpcError) as caught:
        served.prediction.Predict(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "send them all" in caught.value.details()


def test_messages_of_more_than_four_megabytes(echoes):
    large = np.arange(3_000_000, dtype=np.float32)
    np.testing.assert_array_equal(tf.make_ndarray(predict(echoes, spec("float32"), x=large).outputs["y"]), large)


@pytest.mark.parametrize("picture", [b"", b"no picture", b"\xff\xd8\xff\xe0 truncated"])
def test_bad_pictures_are_errors_and_the_server_lives_on(served, picture):
    good = tf.io.encode_jpeg(np.full((8, 8, 3), 100, np.uint8)).numpy()
    with pytest.raises(grpc.RpcError) as caught:
        predict(served, spec("decoder"), image_bytes=np.array([good, picture], object))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    code, answer = post(f"{served.url}/v1/models/decoder:predict", {"instances": ["no picture"]})
    assert (code, list(answer)) == (400, ["error"])
    response = predict(served, spec("decoder"), image_bytes=np.array([good], object))
    assert 99 < response.outputs["mean"].float_val[0] < 101


def test_variables_keep_their_state(served):
    counts = [predict(served, spec("counter"), step=np.int32(2)).outputs["count"].int_val[0] for _ in range(3)]
    assert np.diff(counts).tolist() == [2, 2]


def with_examples(request, values, context=None):
    """Fills a request's input."""
    chosen = request.input.example_list
    if context is not None:
        chosen = request.input.example_list_with_context
        chosen.context.features.feature["x"].float_list.value.append(context)
    for value in values:
        example = chosen.examples.add()
        if value is not None:
            example.features.feature["x"].float_list.value.append(value)
    return request


def test_classify(served):
    request = with_examples(
        classification_pb2.ClassificationRequest(model_spec=spec("examples", signature="classify")), [1.0, None]
    )
    response = served.prediction.Classify(request)
    rows = [[(entry.label, entry.score) for entry in row.classes] for row in response.result.classifications]
    assert rows == [[("plus", 2.5), ("minus", -2.5)], [("plus", 2.0), ("minus", -2.0)]]
    assert response.model_spec.signature_name == "classify"
    assert response.model_spec.version.value == 1


def test_regress_with_a_context_that_examples_override(served):
    request = with_examples(
        regression_pb2.RegressionRequest(model_spec=spec("examples", signature="regress")), [1.0, None], context=4.0
    )
    response = served.prediction.Regress(request)
    assert [entry.value for entry in response.result.regressions] == [2.5, 4.0]


def test_multi_inference(served):
    request = with_examples(inference_pb2.MultiInferenceRequest(), [1.0])
    for method in ("regress", "classify"):
        request.tasks.add(model_spec=spec("examples", signature=method), method_name=f"tensorflow/serving/{method}")
    first, second = served.prediction.MultiInference(request).results
    assert first.regression_result.regressions[0].value == 2.5
    assert second.classification_result.classifications[0].classes[0].label == "plus"
    assert (first.model_spec.signature_name, second.model_spec.signature_name) == ("regress", "classify")
    assert first.model_spec.version.value == 1


def test_metadata_is_the_signature_map(served):
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    response = served.prediction.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 124)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    assert sorted(definitions.signature_def) == ["both", "serving_default"]
    assert definitions.signature_def["both"].inputs["b"].dtype == tf.int64.as_datatype_enum
    code, answer = get(f"{served.url}/v1/models/half/versions/123/metadata")
    assert code == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["both"]["inputs"]["b"]["dtype"] == "DT_INT64"
    assert [dim["size"] for dim in signatures["both"]["inputs"]["b"]["tensor_shape"]["dim"]] == ["-1", "2"]


def test_status_lists_the_latest_version_first(served):
    response = served.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=spec()))
    assert [(entry.version, entry.state, entry.status.error_code) for entry in response.model_version_status] == [
        (124, 30, 0),
        (123, 30, 0),
    ]
    answer = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("half/versions/123", "half/labels/stable", "HALF/versions/123".lower()):
        assert get(f"{served.url}/v1/models/{path}") == (200, {"model_version_status": [answer]})


def test_rest_forms(served):
    url = f"{served.url}/v1/models/half"
    assert post(f"{url}:predict", {"instances": [1.0, 2]}) == (200, {"predictions": [3.5, 4.0]})
    assert post(f"{url}:predict", {"instances": [{"x": 1.0}, {"x": 2}]}) == (200, {"predictions": [3.5, 4.0]})
    assert post(f"{url}/versions/123:predict", {"inputs": [1.0]}) == (200, {"outputs": [2.5]})
    assert post(f"{url}/labels/stable:predict", {"inputs": {"x": [1.0]}}) == (200, {"outputs": [2.5]})
    named = {"signature_name": "both", "instances": [{"a": 1.0, "b": [1, 2]}, {"a": 2.0, "b": [3, 4]}]}
    rows = [{"b_twice": [2, 4], "sum": 4.0}, {"b_twice": [6, 8], "sum": 9.0}]
    assert post(f"{url}:predict", named) == (200, {"predictions": rows})
    columns = {"signature_name": "both", "inputs": {"a": [1.0, 2.0], "b": [[1, 2], [3, 4]]}}
    outputs = {"b_twice": [[2, 4], [6, 8]], "sum": [4.0, 9.0]}
    assert post(f"{url}:predict", columns) == (200, {"outputs": outputs})


def raw(url, body):
    """Posts bytes; returns the answer's text."""
    with urllib.request.urlopen(urllib.request.Request(url, body)) as response:
        assert response.headers["Content-Type"].startswith("application/json")
        return response.read().decode()


def test_rest_numbers_keep_their_kind(echoes):
    url = f"{echoes.url}/v1/models/float32:predict"
    assert raw(url, b'{"inputs": [0.2, 3, 1e-7, 16777215]}') == '{"outputs": [0.2, 3.0, 1e-07, 16777215.0]}'
    returned = json.loads(raw(url, b'{"inputs": [NaN, Infinity, -Infinity]}'))["outputs"]
    assert math.isnan(returned[0])
    assert returned[1:] == [math.inf, -math.inf]
    assert raw(f"{echoes.url}/v1/models/int64:predict", b'{"inputs": [9223372036854775807]}') == (
        '{"outputs": [9223372036854775807]}'
    )
    assert raw(f"{echoes.url}/v1/models/bool:predict", b'{"instances": [true, false]}') == (
        '{"predictions": [true, false]}'
    )
    assert raw(f"{echoes.url}/v1/models/bfloat16:predict", b'{"inputs": 1.5}') == '{"outputs": 1.5}'
    code, answer = post(f"{echoes.url}/v1/models/uint8:predict", {"inputs": [256]})
    assert code == 400
    assert "from 0 to 255" in answer["error"]
    code, answer = post(f"{echoes.url}/v1/models/complex64:predict", {"inputs": [1.0]})
    assert code == 501


def test_rest_bytes(served):
    url = f"{served.url}/v1/models/text:predict"
    sent = {"instances": ["caf\u00e9", {"b64": "/+8="}, {"b64": "YWI"}]}
    assert post(url, sent) == (
        200,
        {
            "predictions": [
                {"y": "caf\u00e9", "y_bytes": {"b64": "Y2Fmw6k="}},
                {"y": "\ufffd\ufffd", "y_bytes": {"b64": "/+8="}},
                {"y": "ab", "y_bytes": {"b64": "YWI="}},
            ]
        },
    )
    assert post(url, {"inputs": {"b64": "YWI="}}) == (200, {"outputs": {"y": "ab", "y_bytes": {"b64": "YWI="}}})


def test_rest_classify_and_regress(served):
    url = f"{served.url}/v1/models/examples"
    classify = {"signature_name": "classify", "examples": [{"x": 0.4}, {}]}
    rows = [[["plus", 2.2], ["minus", -2.2]], [["plus", 2.0], ["minus", -2.0]]]
    assert post(f"{url}:classify", classify) == (200, {"results": rows})
    regress = {"signature_name": "regress", "context": {"x": [4.0]}, "examples": [{"x": 1.0}, {}]}
    assert post(f"{url}:regress", regress) == (200, {"results": [2.5, 4.0]})


def test_rest_gzip_bodies(served):
    url = f"{served.url}/v1/models/half:predict"
    body = gzip.compress(json.dumps({"instances": [1.0]}).encode())
    assert post(url, body, {"Content-Encoding": "gzip"}) == (200, {"predictions": [3.5]})
    code, answer = post(url, b"no gzip", {"Content-Encoding": "gzip"})
    assert (code, list(answer)) == (400, ["error"])


def test_rest_body_limit_holds_for_gzip_bombs(start, tmp_path):
    tiny_models.half_plus_two(tmp_path / "1")
    clients = start(model_base_path=str(tmp_path), model_name="half", rest_api_max_body_bytes=100_000)
    bomb = gzip.compress(b" " * 50_000_000)
    code, answer = post(f"{clients.url}/v1/models/half:predict", bomb, {"Content-Encoding": "gzip"})
    assert code == 413
    assert "100000 bytes" in answer["error"]
    assert post(f"{clients.url}/v1/models/half:predict", {"instances": [1.0]})[0] == 200


def test_deadlines_end_the_run(start, tmp_path):
    tiny_models.slow(tmp_path / "1", rounds=5_000_000)
    clients = start(model_base_path=str(tmp_path), model_name="slow", rest_api_timeout_in_ms=300)
    with pytest.raises(grpc.RpcError) as caught:
        predict(clients, spec("slow"), x=X, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    code, answer = post(f"{clients.url}/v1/models/slow:predict", {"instances": [1.0]})
    assert (code, list(answer)) == (504, ["error"])


def test_health(served):
    stub = health_pb2_grpc.HealthStub(served.channel)
    for service in ("", "ModelService", "PredictionService"):
        assert (
            stub.Check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING
        )
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
