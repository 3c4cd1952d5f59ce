"""REST where no server at hand misbehaves: what comes back is written out here, the HTTP is real."""

import asyncio
import http.server
import json
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

from keras_mobilenet.client import AsyncClient, Client, ClientError, InputError, Retry, Signature, TensorSpec

QUICK = Retry(first_pause=0.01)

# The form of TF Serving's documentation (RESTful API, "Model Metadata API").
METADATA = {
    "model_spec": {"name": "colours", "signature_name": "", "version": "12"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {
                        "x": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
                            "name": "x:0",
                        }
                    },
                    "outputs": {
                        "y": {"dtype": "DT_HALF", "tensor_shape": {"dim": [], "unknown_rank": True}, "name": "y:0"}
                    },
                    "method_name": "tensorflow/serving/predict",
                }
            }
        }
    },
}
OUTPUTS = (200, '{"outputs": [1.5, NaN, -Infinity]}')


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path
        self.answer(*((200, json.dumps(METADATA)) if path.endswith("/metadata") else self.server.answers.pop(0)))

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.answer(*self.server.answers.pop(0))

    def answer(self, status, body):
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        time.sleep(self.server.delay)
        self.send_response(status)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def start():
    running = []

    def start_one():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.answers, server.paths, server.bodies, server.headers, server.delay = [], [], [], [], 0
        server.target = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start_one
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def client(server):
    with Client(server.target, model_name="colours", rest=True, retry=QUICK) as client:
        yield client


def test_the_documented_form_of_metadata(client):
    metadata = client.metadata()
    assert (metadata.name, metadata.version) == ("colours", 12)
    signature = Signature(
        {"x": TensorSpec("float32", (None,))}, {"y": TensorSpec("float16", None)}, "tensorflow/serving/predict"
    )
    assert metadata.signatures == {"serving_default": signature}


def test_predict(server, client):
    server.answers = [OUTPUTS]
    outputs = client.predict([1, 2])
    assert server.bodies == [{"signature_name": "serving_default", "inputs": {"x": [1.0, 2.0]}}]
    assert outputs["y"].dtype == np.float16
    np.testing.assert_array_equal(outputs["y"], np.array([1.5, np.nan, -np.inf], np.float16))


def test_paths_of_versions_and_labels(server, client):
    server.answers = [OUTPUTS] * 3
    client.predict([1], version=5)
    client.predict([1], version_label="a/b")
    client.predict([1], model_name="my model")
    assert server.paths[1::2] == [
        "/v1/models/colours/versions/5:predict",
        "/v1/models/colours/labels/a%2Fb:predict",
        "/v1/models/my%20model:predict",
    ]


def test_unavailable_is_tried_again(server, client):
    server.answers = [(503, '{"error": "the queue is full"}')] * 2 + [OUTPUTS]
    client.predict([1])
    assert len(server.bodies) == 3
    server.answers = [(503, '{"error": "the queue is full"}')] * 4
    with pytest.raises(ClientError, match="UNAVAILABLE.*: the queue is full"):  # noqa: RUF043
        client.predict([1])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "ABORTED"),
        (418, "UNKNOWN"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_nothing_else_is_tried_again(server, client, status, code):
    server.answers = [(status, '{"error": "as it is"}')]
    with pytest.raises(ClientError) as caught:
        client.predict([1])
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode[code], "as it is")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((200, "<html>hello</html>"), "the answer is not TF Serving's"),
        ((200, '{"predictions": [1]}'), "the answer is not TF Serving's"),
        ((200, '{"outputs": ["a"]}'), "the answer is not TF Serving's"),
        (
            (502, "<html>bad gateway</html>"),
            "HTTP 502 without TF Serving's error text; is this its REST port?.*bad gateway",
        ),
    ],
)
def test_answers_of_other_servers(server, client, answer, text):
    server.answers = [answer]
    with pytest.raises(ClientError, match=text):
        client.predict([1])


def test_a_server_that_stalls(server, client):
    client.metadata()
    server.delay = 2
    server.answers = [OUTPUTS]
    start = time.monotonic()
    with pytest.raises(ClientError, match="no answer within") as caught:
        client.predict([1], timeout=0.3)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 1.5


def test_nobody_listens():
    with Client("localhost:1", rest=True, retry=QUICK) as client, pytest.raises(ClientError) as caught:
        client.status()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert "UNAVAILABLE (localhost:1): no REST server answers there; is it running" in str(caught.value)


def test_several_addresses_take_turns_and_a_dead_one_is_passed_over(start):
    servers = [start(), start()]
    status = (200, '{"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}')
    for server in servers:
        server.answers = [status] * 20
    targets = [servers[0].target, "localhost:1", servers[1].target]
    with Client(targets, rest=True, retry=Retry(attempts=1)) as client:
        for _ in range(9):
            assert client.status()[0].version == 1
    assert [len(server.paths) for server in servers] == [3, 6]


def test_asyncio_tries_again_and_passes_over_a_dead_address(server):
    async def course():
        options = {"model_name": "colours", "rest": True, "retry": QUICK}
        async with AsyncClient(["localhost:1", server.target], **options) as client:
            server.answers = [(503, '{"error": "busy"}'), OUTPUTS]
            return await client.predict([1])

    assert asyncio.run(course())["y"][0] == 1.5
    assert len(server.bodies) == 2


def test_a_url_means_rest(server):
    server.answers = [(200, '{"model_version_status": []}')]
    with Client(f"http://{server.target}/behind/a/proxy/", headers={"Authorization": "Bearer x"}) as client:
        assert client.status() == []
    assert server.paths == ["/behind/a/proxy/v1/models/default"]
    assert server.headers[0]["authorization"] == "Bearer x"


def test_reload_is_not_for_rest(client):
    with pytest.raises(ClientError, match="over gRPC only") as caught:
        client.reload({"a": "/a"})
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_grpc_targets_are_refused():
    with pytest.raises(ValueError, match="no REST address"):
        Client("dns:///localhost:8501", rest=True)


def test_wrong_inputs_are_not_sent(server, client):
    with pytest.raises(InputError, match=r"'x' takes float32 \[\?\], not the shape \[1, 1\]"):
        client.predict([[1.0]])
    assert not server.bodies


def test_without_httpx():
    program = """
import sys
sys.modules["httpx"] = None
from keras_mobilenet.client import Client
Client("localhost:1").close()
try:
    Client("localhost:1", rest=True)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "REST needs the httpx package: pip install 'keras-mobilenet[serving]'\n"
