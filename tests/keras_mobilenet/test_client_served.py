"""The client against `python -m serving.server`: gRPC and REST, blocking and asyncio."""

import asyncio
import re
import signal
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf

from keras_mobilenet.client import AsyncClient, Client, ClientError, InputError
from tests.keras_mobilenet.client_peer import write_model

pytestmark = pytest.mark.slow

IMAGE = np.zeros((2, 6, 5, 3), np.uint8)
IMAGE[0, ..., 0] = 250
IMAGE[1, ..., 2] = 250


class Served:
    """A server process; it is ended with SIGTERM."""

    def __init__(self, path, *flags):
        self.command = [sys.executable, "-m", "serving.server", "--port=0", "--rest_api_port=-1", *flags]
        self.command += ["--model_name=colours", f"--model_base_path={path}"]
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        self.grpc = self.rest = None
        for line in self.process.stderr:
            if found := re.search(r"gRPC ModelServer at [^ ]*:(\d+)", line):
                self.grpc = f"localhost:{found[1]}"
            if found := re.search(r"HTTP/REST API at:localhost:(\d+)", line):
                self.rest = f"localhost:{found[1]}"
                break
        assert self.grpc and self.rest
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def served(model_path):
    socket = model_path.parent / "socket"
    served = Served(model_path.parent, f"--grpc_socket_path={socket}")
    served.socket = f"unix:{socket}"
    yield served
    served.stop()


class Blocking:
    """An AsyncClient whose methods block, for the tests that all clients share."""

    def __init__(self, *arguments, **options):
        self.runner = asyncio.Runner()
        self.client = AsyncClient(*arguments, **options)

    def __getattr__(self, name):
        return lambda *arguments, **options: self.runner.run(getattr(self.client, name)(*arguments, **options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.runner.close()


@pytest.fixture(params=["grpc", "grpc asyncio", "rest", "rest asyncio"])
def client(request, served):
    rest = request.param.startswith("rest")
    kind = Blocking if request.param.endswith("asyncio") else Client
    with kind(served.rest if rest else served.grpc, model_name="colours", rest=rest) as client:
        client.rest = rest
        yield client


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "red.png"
    path.write_bytes(tf.io.encode_png(IMAGE[0]).numpy())
    return path


def check(outputs, wanted):
    assert outputs.keys() == wanted.keys()
    for name, array in wanted.items():
        assert outputs[name].dtype == array.dtype
        np.testing.assert_allclose(outputs[name], array, rtol=1e-5)


@pytest.fixture(scope="module")
def expected(model_path):
    return {
        name: value.numpy()
        for name, value in tf.saved_model.load(str(model_path))
        .signatures["serving_default"](image=tf.constant(IMAGE))
        .items()
    }


def test_arrays(client, expected):
    outputs = client.predict(IMAGE)
    check(outputs, expected)
    assert outputs.version == (None if client.rest else 3)
    check(client.predict({"image": IMAGE.tolist()}), expected)
    assert list(client.predict(IMAGE, outputs=["scores"])) == ["scores"]


def test_pictures(client, expected, picture):
    outputs = client.predict([picture, picture.read_bytes()])
    for row in range(2):
        np.testing.assert_allclose(outputs["probabilities"][row], expected["probabilities"][0], rtol=1e-5)


def test_classify(client, picture):
    (classes,) = client.classify(picture)
    assert classes[0].label == "red" and len(classes) == 5
    assert client.classify({"image/encoded": picture.read_bytes()}) == [classes]


def test_every_kind_of_tensor(client):
    kinds = {
        "text": np.array(["a", "später"]),
        "half": [[1.5, 2]],
        "brain": [1.5, np.inf],
        "whole": 2**40,
        "flag": [[True, False]],
    }
    outputs = client.predict(kinds, signature_name="kinds")
    assert outputs["text_bytes"].tolist() == [b"a!", "später!".encode()]
    assert outputs["half"].dtype == np.float16 and outputs["half"].tolist() == [[3, 4]]
    assert outputs["brain"].dtype.name == "bfloat16" and outputs["brain"].tolist() == [2.5, np.inf]
    assert outputs["whole"].dtype == np.int64 and outputs["whole"] == 2**40 + 1
    assert outputs["flag"].dtype == bool and outputs["flag"].tolist() == [[False, True]]


def test_metadata_is_the_same_over_grpc_and_rest(client, served):
    with Client(served.grpc, model_name="colours") as other:
        assert client.metadata() == other.metadata()
    assert sorted(client.metadata(version=3).signatures) == ["classify", "encoded_image", "kinds", "serving_default"]


def test_status(client):
    (status,) = client.status()
    assert (status.version, status.state, status.error_code, status.error_message) == (3, "AVAILABLE", "OK", "")


def test_errors(client, picture):
    for call in (client.predict, client.classify):
        with pytest.raises(ClientError) as caught:
            call(b"not a picture")
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(ClientError, match=r"Servable not found for request: Latest\(other\)") as caught:
        client.predict(IMAGE, model_name="other")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(ClientError, match=r"Specific\(colours, 7\)"):
        client.predict(IMAGE, version=7)
    with pytest.raises(ClientError, match="version label: x"):
        client.predict(IMAGE, version_label="x")
    with pytest.raises(ClientError, match="Could not find any versions of model other"):
        client.status(model_name="other")
    with pytest.raises(InputError, match="takes uint8"):
        client.predict(IMAGE / 2)
    assert client.predict(picture)["class_ids"][0, 0] == 0


def test_timeout(client):
    large = np.zeros((64, 256, 256, 3), np.uint8)
    with pytest.raises(ClientError) as caught:
        client.predict(large, timeout=0.01)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_reload(model_path, client, served):
    if client.rest:
        with pytest.raises(ClientError, match="over gRPC only") as caught:
            client.reload({"colours": model_path.parent})
        assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
        return
    client.reload({"colours": model_path.parent, "again": model_path.parent})
    assert client.predict(IMAGE, model_name="again")["class_ids"][0, 0] == 0
    client.reload({"colours": model_path.parent})
    with pytest.raises(ClientError, match="relative"):
        client.reload({"colours": "relative"})


def test_the_wrong_port(served):
    with Client(served.rest) as client, pytest.raises(ClientError, match="is this its gRPC port"):
        client.status()
    with Client(served.grpc, rest=True) as client, pytest.raises(ClientError, match="is this its REST port"):
        client.status()


def test_a_unix_socket(served, expected):
    with Client(served.socket, model_name="colours") as client:
        check(client.predict(IMAGE), expected)


def test_many_at_once(served):
    async def all_answers():
        async with AsyncClient(served.grpc, model_name="colours") as client:
            images = [np.full((1, 4, 4, 3), [250 * (i % 2), 0, 250 * (1 - i % 2)], np.uint8) for i in range(64)]
            return await asyncio.gather(*(client.predict(image) for image in images))

    answers = asyncio.run(all_answers())
    assert [answer["class_ids"][0, 0] for answer in answers] == [2, 0] * 32


def test_a_cancelled_task_ends_and_the_client_goes_on(served):
    async def course():
        async with AsyncClient(served.grpc, model_name="colours") as client:
            await client.predict(IMAGE)
            task = asyncio.create_task(client.predict(np.zeros((64, 256, 256, 3), np.uint8)))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.predict(IMAGE)

    assert asyncio.run(course())["class_ids"][0, 0] == 0


@pytest.mark.parametrize("rest", [False, True])
def test_the_command_line(served, picture, rest):
    address = ["--rest", f"--server={served.rest}"] if rest else [f"--server={served.grpc}"]
    command = [sys.executable, "-m", "serving.client", *address, "--model_name=colours", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines()[1].split()[1] == "red"
