import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf

from keras_mobilenet.client import Client, ClientError, InputError, Retry, Signature, TensorSpec
from tests.keras_mobilenet.client_peer import LABELS, Peer, write_model

IMAGE = np.zeros((2, 6, 5, 3), np.uint8)
IMAGE[0, ..., 0] = 250
IMAGE[1, ..., 2] = 250
QUICK = Retry(first_pause=0.01)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def peer(model_path):
    peer = Peer(model_path)
    yield peer
    peer.stop()


@pytest.fixture
def client(peer):
    peer.calls.clear()
    peer.failures.clear()
    peer.delay = 0
    with Client(peer.target, model_name="colours", retry=QUICK) as client:
        yield client


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "red.png"
    path.write_bytes(tf.io.encode_png(IMAGE[0]).numpy())
    return path


def expected(peer, image=IMAGE):
    return {name: value.numpy() for name, value in peer.functions["serving_default"](image=tf.constant(image)).items()}


def check(outputs, wanted):
    assert outputs.keys() == wanted.keys()
    for name, array in wanted.items():
        assert outputs[name].dtype == array.dtype
        np.testing.assert_allclose(outputs[name], array, rtol=1e-6)


def test_imports_neither_tensorflow_nor_keras_and_is_small():
    program = """
import time
start = time.process_time()  # not the clock: other work on the machine is not the import's
import keras_mobilenet.client
seconds = time.process_time() - start
import sys
from pathlib import Path
# Not ru_maxrss: a process starts with that of the one that forked it, here a test run with TensorFlow in it.
print(seconds, int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024)
print(sorted({name.split(".")[0] for name in sys.modules} & {"tensorflow", "keras"}))
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True) for _ in range(3)
    ]
    figures = [[float(word) for word in run.stdout.splitlines()[0].split()] for run in runs]
    seconds, megabytes = min(figure[0] for figure in figures), max(figure[1] for figure in figures)
    print(f"import keras_mobilenet.client: {seconds:.2f} s, peak {megabytes:.0f} MB")
    assert all(run.stdout.splitlines()[1] == "[]" for run in runs)
    assert seconds <= 2  # 0.3 on a calm machine; TensorFlow alone takes longer than this bound on any
    assert megabytes <= 80


def test_an_array_is_sent_under_the_name_that_the_server_tells(client, peer):
    outputs = client.predict(IMAGE)
    check(outputs, expected(peer))
    assert (outputs.model_name, outputs.signature_name, outputs.version) == ("colours", "serving_default", 3)
    assert [LABELS[ids[0]] for ids in outputs["class_ids"]] == ["red", "blue"]


def test_signatures_are_asked_for_once(client, peer):
    client.predict(IMAGE)
    client.predict(IMAGE)
    assert peer.calls == ["GetModelMetadata", "Predict", "Predict"]


@pytest.mark.parametrize("form", [lambda x: {"image": x}, lambda x: x.tolist(), lambda x: x.astype(np.int64), list])
def test_other_forms_of_an_array(client, peer, form):
    check(client.predict(form(IMAGE)), expected(peer))


def test_outputs_can_be_chosen(client, peer):
    outputs = client.predict(IMAGE, outputs=["class_ids"])
    assert list(outputs) == ["class_ids"]


def test_pictures_as_paths_and_bytes(client, peer, picture):
    one = client.predict(picture)
    assert one.signature_name == "encoded_image"
    for inputs in (str(picture), picture.read_bytes(), bytearray(picture.read_bytes())):
        check(client.predict(inputs), one)
    several = client.predict([picture, picture.read_bytes()])
    assert several["class_ids"][:, 0].tolist() == [0, 0]


def test_classify_gives_labels(client, picture):
    red, again = client.classify([picture, str(picture)])
    assert red == again
    assert red[0].label == "red" and red[0].score > red[1].score
    assert len(red) == 5


def test_classify_takes_features(client, picture):
    assert client.classify({"image/encoded": picture.read_bytes()})[0][0].label == "red"


KINDS = {
    "text": np.array(["a", "später"]),
    "half": np.array([[1.5, 2]], np.float16),
    "brain": [1.5, 2.5],
    "whole": 2**40,
    "flag": [[True, False]],
}


def test_every_kind_of_tensor(client):
    outputs = client.predict(KINDS, signature_name="kinds")
    assert outputs["text_bytes"].tolist() == [b"a!", "später!".encode()]
    assert outputs["half"].dtype == np.float16 and outputs["half"].tolist() == [[3, 4]]
    assert outputs["brain"].dtype.name == "bfloat16" and outputs["brain"].tolist() == [2.5, 3.5]
    assert outputs["whole"].dtype == np.int64 and outputs["whole"] == 2**40 + 1
    assert outputs["flag"].tolist() == [[False, True]]


def test_metadata(client):
    metadata = client.metadata()
    assert (metadata.name, metadata.version) == ("colours", 3)
    assert sorted(metadata.signatures) == ["classify", "encoded_image", "kinds", "serving_default"]
    serving = metadata.signatures["serving_default"]
    assert isinstance(serving, Signature)
    assert serving.inputs == {"image": TensorSpec("uint8", (None, None, None, 3))}
    assert serving.outputs["scores"] == TensorSpec("float32", (None, 5))
    assert metadata.signatures["kinds"].inputs["flag"] == TensorSpec("bool", None)
    assert metadata.signatures["classify"].method_name == "tensorflow/serving/classify"


def test_status(client):
    available, failed = client.status()
    assert (available.version, available.state, available.error_code) == (3, "AVAILABLE", "OK")
    assert (failed.version, failed.state, failed.error_code, failed.error_message) == (
        1,
        "END",
        "NOT_FOUND",
        "no such file",
    )


def test_versions_and_labels(client):
    assert client.predict(IMAGE, version=3).version == 3
    assert client.predict(IMAGE, version_label="stable").version == 3
    with pytest.raises(ClientError, match=r"Servable not found for request: Specific\(colours, 7\)") as caught:
        client.predict(IMAGE, version=7)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(ClientError, match="Unrecognized servable version label: x"):
        client.predict(IMAGE, version_label="x")
    with pytest.raises(InputError, match="give one"):
        client.predict(IMAGE, version=3, version_label="stable")


def test_reload(client, peer, tmp_path):
    client.reload({"colours": "/models/colours"})
    config = peer.configs[-1].model_config_list.config[0]
    assert (config.name, config.base_path, config.model_platform) == ("colours", "/models/colours", "tensorflow")
    file = tmp_path / "models.config"
    file.write_text(
        'model_config_list { config { name: "a" base_path: "/a" model_version_policy { specific { versions: 4 } }'
        ' version_labels { key: "stable" value: 4 } } }'
    )
    client.reload(file)
    config = peer.configs[-1].model_config_list.config[0]
    assert config.model_version_policy.specific.versions == [4] and config.version_labels == {"stable": 4}
    with pytest.raises(ClientError, match="base_path must be absolute") as caught:
        client.reload({"a": "relative"})
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    file.write_text("model_config_list { nonsense }")
    with pytest.raises(InputError, match=r"models\.config.*cannot be read"):
        client.reload(file)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (IMAGE / 255.0, r"'image' takes uint8 \[\?, \?, \?, 3\]: an array of float64 was given; .*astype\('uint8'\)"),
        (IMAGE.astype(np.int32) - 1, "the values go from -1 to 249, and uint8 from 0 to 255"),
        (IMAGE[0], r"not the shape \[6, 5, 3\]; add the batch axis"),
        (IMAGE[..., :2], r"not the shape \[2, 6, 5, 2\]"),
        ([IMAGE[0], IMAGE[1, 1:]], "differ in shape"),
        ({"input_1": IMAGE}, r"unknown: input_1; missing: image.*image: uint8"),
        (np.array(["text"]), "an array of <U4 was given"),
        (None, "array of object was given"),
    ],
)
def test_inputs_that_do_not_fit_are_not_sent(client, peer, inputs, text):
    with pytest.raises(InputError, match=text) as caught:
        client.predict(inputs)
    assert "Predict" not in peer.calls
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.target == peer.target and peer.target in str(caught.value)
    assert "image: uint8 [?, ?, ?, 3]" in str(caught.value)
    assert "Pictures can also be sent undecoded, as paths or bytes" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_inputs_over_the_limit_of_a_message(client):
    huge = np.broadcast_to(np.zeros(1, np.uint8), (1, 40000, 40000, 3))
    with pytest.raises(InputError, match="over 2 GiB"):
        client.predict(huge)


@pytest.mark.parametrize(
    ("inputs", "arguments", "text"),
    [
        (IMAGE, {"signature_name": "x"}, r"no signature 'x'; it has \['classify', 'encoded_image'"),
        (IMAGE, {"outputs": ["z"]}, r"no output \['z'\]; it has \['class_ids', 'probabilities', 'scores'\]"),
        (IMAGE, {"timeout": 0}, "timeout=0 must be above 0"),
        (3, {"signature_name": "kinds"}, "the signature takes 5 inputs; give a dict"),
        ({**KINDS, "text": [1]}, {"signature_name": "kinds"}, "a string is str or bytes, not int"),
        ("no/such.jpg", {}, r"picture 'no/such\.jpg' cannot be read: No such file or directory"),
        ([b"x", b""], {}, "picture 1 is empty"),
    ],
)
def test_requests_that_make_no_sense(client, inputs, arguments, text):
    with pytest.raises(InputError, match=text):
        client.predict(inputs, **arguments)


def test_the_servers_own_errors_come_through(client, peer):
    with pytest.raises(ClientError) as caught:
        client.predict(b"not a picture")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Unknown image file format" in caught.value.message
    check(client.predict(IMAGE), expected(peer))


def test_an_output_that_numpy_cannot_hold(client, peer):
    peer.addition.outputs["handle"].dtype = 20  # DT_RESOURCE
    try:
        with pytest.raises(ClientError, match=r"output 'handle' cannot be read: A tensor of type resource"):
            client.predict(IMAGE)
    finally:
        peer.addition.Clear()


def test_unavailable_is_tried_again(client, peer):
    client.predict(IMAGE)
    peer.calls.clear()
    peer.fail(grpc.StatusCode.UNAVAILABLE, "the queue is full", times=3)
    check(client.predict(IMAGE), expected(peer))
    assert peer.calls == ["Predict"] * 4
    peer.fail(grpc.StatusCode.UNAVAILABLE, "the queue is full", times=4)
    with pytest.raises(ClientError, match=r"UNAVAILABLE.*the queue is full"):
        client.predict(IMAGE)
    assert peer.calls == ["Predict"] * 8


def test_requests_too_large_for_grpcs_own_retries_are_tried_again(client, peer):
    large = np.zeros((1, 1200, 1200, 3), np.uint8)  # 4.3 MB: also over gRPC's usual limit of a message
    client.predict(IMAGE)
    peer.fail(grpc.StatusCode.UNAVAILABLE, "the queue is full")
    check(client.predict(large), expected(peer, large))


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "UNKNOWN"])
def test_nothing_else_is_tried_again(client, peer, code):
    client.predict(IMAGE)
    peer.calls.clear()
    peer.fail(grpc.StatusCode[code], "broken")
    with pytest.raises(ClientError, match="broken") as caught:
        client.predict(IMAGE)
    assert caught.value.code is grpc.StatusCode[code]
    assert peer.calls == ["Predict"]


def test_pauses_grow_and_end_with_the_time(client, peer):
    peer.fail(grpc.StatusCode.UNAVAILABLE, "busy", times=50)
    slow = Retry(attempts=50, first_pause=0.05, factor=2)
    start = time.monotonic()
    with (
        Client(peer.target, model_name="colours", retry=slow, timeout=1) as client,
        pytest.raises(ClientError, match="busy"),
    ):
        client.status()
    assert time.monotonic() - start < 1.5
    assert 3 <= len(peer.calls) <= 6


def test_nobody_listens(unused_port):
    with Client(f"localhost:{unused_port}", retry=QUICK) as client, pytest.raises(ClientError) as caught:
        client.predict(IMAGE)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert f"localhost:{unused_port}" in str(caught.value)
    assert "no gRPC server answers there; is it running" in caught.value.message
    assert "Connection refused" in caught.value.message


def test_a_server_that_comes_back_is_found(model_path, unused_port):
    with Client(f"localhost:{unused_port}", model_name="colours", retry=Retry(attempts=30)) as client:
        with pytest.raises(ClientError):
            client.status(timeout=0.5)
        peer = Peer(model_path, port=unused_port)
        try:
            check(client.predict(IMAGE), expected(peer))
        finally:
            peer.stop()


def test_a_timeout_is_named(client, peer):
    client.predict(IMAGE)
    peer.delay = 0.5
    with pytest.raises(ClientError, match="no answer within") as caught:
        client.predict(IMAGE, timeout=0.05)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_several_addresses_take_turns_and_a_dead_one_is_left_out(model_path, unused_port):
    peers = [Peer(model_path), Peer(model_path)]
    addresses = [peer.target for peer in peers]
    with Client([*addresses, f"localhost:{unused_port}"], model_name="colours", retry=Retry(attempts=1)) as client:
        client.predict(IMAGE)
        deadline = time.monotonic() + 10
        while not all(peer.calls for peer in peers) and time.monotonic() < deadline:
            client.predict(IMAGE)  # until both connections stand
        for peer in peers:
            peer.calls.clear()
        for _ in range(10):
            client.predict(IMAGE)
        assert sum(len(peer.calls) for peer in peers) == 10
        assert all(len(peer.calls) >= 3 for peer in peers)  # a round starts anew when the third address fails again
        with pytest.raises(InputError, match="a client for each address"):
            client.reload({})
        peers[0].stop()
        time.sleep(0.2)
        for _ in range(10):
            check(client.predict(IMAGE), expected(peers[1]))
        assert len(peers[1].calls) >= 13
    peers[1].stop()


def test_a_new_version_with_other_signatures_is_noticed(model_path, tmp_path):
    class Renamed(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="pixels")])
        def serve(self, pixels):
            return {"mean": tf.reduce_mean(pixels, axis=[1, 2, 3])}

    model = Renamed()
    tf.saved_model.save(model, str(tmp_path / "4"), {"serving_default": model.serve})
    peer = Peer(model_path)
    with Client(peer.target, model_name="colours") as client:
        client.predict(IMAGE)
        peer.version = 4
        peer.load(tmp_path / "4")
        outputs = client.predict(IMAGE)
        assert outputs.version == 4
        np.testing.assert_allclose(outputs["mean"], IMAGE.mean(axis=(1, 2, 3)), rtol=1e-6)
    peer.stop()


def test_headers_are_sent(peer):
    with Client(peer.target, model_name="colours", headers={"Authorization": "Bearer x"}) as client:
        client.status()
    assert peer.headers["authorization"] == "Bearer x"


@pytest.mark.parametrize(
    "target", ["", "localhost", "localhost:", ":8500", "localhost:http", "a:1,", "a:99999", "a:1,unix:/x"]
)
def test_targets_that_are_none(target):
    with pytest.raises(ValueError, match=r"HOST:PORT"):
        Client(target)


def test_a_name_that_does_not_exist():
    for target in ("no-such-host.invalid:8500", "no-such-host.invalid:8500,localhost:8501"):
        with pytest.raises(ClientError) as caught:
            Client(target, retry=Retry(attempts=1)).status()
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_errors_can_be_pickled():
    import pickle

    error = pickle.loads(pickle.dumps(ClientError(grpc.StatusCode.NOT_FOUND, "no such model", "localhost:1")))
    assert (error.code, error.message, error.target) == (grpc.StatusCode.NOT_FOUND, "no such model", "localhost:1")
    assert str(error) == "NOT_FOUND (localhost:1): no such model"


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
