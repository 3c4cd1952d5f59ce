"""Requests that no client of ours would send: fuzzed messages and bodies, odd tensors, many idle connections."""

import contextlib
import json
import socket
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server import json_tensors, status, tensors
from tests.serving.server.calls import predict, spec

PREDICT = "/tensorflow.serving.PredictionService/Predict"
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
X = np.array([1.0, 2.0], np.float32)
VALID = predict_pb2.PredictRequest(model_spec=spec(), inputs={"x": tf.make_tensor_proto(X)}).SerializeToString()
DOCUMENTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INTERNAL,  # grpcio's own, for bytes that are no message.
}


def send_raw(served, method, message):
    """Sends bytes as they are; returns the status code."""
    call = served.channel.unary_unary(method, lambda raw: raw, lambda raw: raw)
    try:
        call(message, timeout=20)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.INTERNAL:
            assert "deserializing" in error.details()
        return error.code()
    return grpc.StatusCode.OK


@EXAMPLES
@given(message=st.binary(max_size=200))
def test_any_bytes_over_grpc(served, message):
    for method in ("Predict", "Classify", "MultiInference", "GetModelMetadata"):
        assert send_raw(served, f"/tensorflow.serving.PredictionService/{method}", message) in DOCUMENTED


@EXAMPLES
@given(place=st.integers(0, len(VALID) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_requests_over_grpc(served, place, byte, cut):
    damaged = VALID[:place] if cut else VALID[:place] + bytes([byte]) + VALID[place + 1 :]
    assert send_raw(served, PREDICT, damaged) in DOCUMENTED | {grpc.StatusCode.OK}


def test_the_server_answers_after_all_that(served):
    assert predict(served, spec(), x=X).outputs["y"].float_val == [3.5, 4.0]


def send_body(served, body, path="/v1/models/half:predict"):
    """Posts bytes; returns status and answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(served.url + path, body), timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


NAMES = st.sampled_from(["instances", "inputs", "x", "b64", "signature_name", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "x", "b64", "signature_name", "a"]), children, max_size=3
        )
    ),
    max_leaves=12,
)


@EXAMPLES
@given(document=st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "examples"]), JSON))
def test_any_json_over_rest(served, document):
    for path in ("half:predict", "text:predict", "examples:classify"):
        code, answer = send_body(served, json.dumps(document).encode(), f"/v1/models/{path}")
        assert code in (200, 400), answer
        assert (code == 200) != ("error" in answer)


@EXAMPLES
@given(body=st.binary(max_size=100))
def test_any_bytes_over_rest(served, body):
    code, answer = send_body(served, b'{"instances": ' + body)
    assert (code, list(answer)) == (400, ["error"])


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.integers(0, 30),
    shape=st.lists(st.integers(-2, 2**40), max_size=4),
    content=st.binary(max_size=20),
    values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
)
def test_any_tensor_is_an_array_of_its_shape_or_an_error(dtype, shape, content, values):
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_content=content, int_val=values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    try:
        array = tensors.to_numpy(proto, "x")
    except status.ServingError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    else:
        assert list(array.shape) == shape
        assert array.dtype == tensors.numpy_dtype(dtype)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32), max_size=8))
def test_floats_survive_json(values):
    array = np.array(values, np.float32)
    signature = meta_graph_pb2.SignatureDef()
    signature.outputs["y"].dtype = tf.float32.as_datatype_enum
    text = json_tensors.write_outputs({"y": array}, json_tensors.Format.COLUMN, signature)
    returned = np.array(json.loads(text)["outputs"], np.float32)
    np.testing.assert_array_equal(returned, array)
    assert all("." in word or "e" in word or "N" in word or "I" in word for word in text[13:-2].split(", ") if word)


@pytest.mark.slow
def test_a_thousand_idle_connections_leave_room_for_requests(served):
    host, port = served.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        for index in range(1000):
            idle = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            if index % 2:
                idle.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 100\r\n")
        assert send_body(served, b'{"instances": [1.0]}') == (200, {"predictions": [3.5]})
        assert predict(served, spec(), x=X).outputs["y"].float_val == [3.5, 4.0]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/models/half HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_broken_http_is_refused(served, request_bytes):
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request_bytes)
        assert b" 400 " in connection.recv(1000)
    assert send_body(served, b'{"instances": [1.0]}')[0] == 200
