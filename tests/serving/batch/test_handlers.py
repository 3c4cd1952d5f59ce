import subprocess
import time

import grpc
import numpy as np
import pytest

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

import keras
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet.client import Client, ClientError
from serving.batch import artefact, handlers, pictures
from serving.batch.artefact import Wanted
from serving.benchmark import processes

from .jobs import ROOT, command, link, read_bad, read_rows, run

LABELS = ("ash", "beech", "cedar", "date", "elm", "fir")


@pytest.fixture(scope="module")
def photos(shared_data):
    return sorted((shared_data / "imagenet" / "ccby400").iterdir())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A classifier's versions, whose classes differ from picture to picture."""
    keras.utils.set_random_seed(0)
    model = km.MobileNetV1((32, 32, 3), 0.25, classes=len(LABELS))
    head = model.layers[-2] if not model.layers[-1].weights else model.layers[-1]
    for weight in head.weights[:1]:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape) * 30)
    folder = tmp_path_factory.mktemp("models") / processes.MODEL
    km.export_saved_model(model, folder, labels=LABELS, tflite="float32")
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = km.MobileNetV2((32, 32, 3), 0.35, include_top=False, pooling="avg")
    return km.export_saved_model(network, tmp_path_factory.mktemp("models") / "features")


def judged(handler, paths, size):
    model = handler.load_model()
    batch = [pictures.decode(pictures.read(str(path)), size) for path in paths]
    return list(handler.run_inference(batch, model))


def test_a_saved_model_says_what_its_signature_says(base, photos):
    model = artefact.stored(str(base), Wanted("classify", top=3))
    handler = handlers.StoredModel(str(base), model.reading, 4, 1, None)
    rows = judged(handler, photos[:6], model.size)
    signature = tf.saved_model.load(str(base / "1")).signatures["encoded_image"]
    outputs = signature(image_bytes=tf.constant([path.read_bytes() for path in photos[:6]]))
    for i, row in enumerate(rows):
        assert row["class_ids"][0] == outputs["class_ids"][i, 0] and row["labels"][0] == LABELS[row["class_ids"][0]]
        np.testing.assert_allclose(row["scores"], outputs["scores"][i, :3], atol=0.02)
        assert (row["model"], row["version"]) == (processes.MODEL, "1")
    lite = artefact.stored(str(base / "1" / "model.tflite"), Wanted("classify", top=3))
    same = judged(
        handlers.StoredModel(str(base / "1" / "model.tflite"), lite.reading, 4, 1, None), photos[:6], lite.size
    )
    assert [row["class_ids"] for row in same] == [row["class_ids"] for row in rows]
    assert {(row["model"], row["version"]) for row in same} == {(processes.MODEL, "1")}


def test_embeddings_are_the_features(features, photos):
    model = artefact.stored(str(features), Wanted("embed"))
    (row,) = judged(handlers.StoredModel(str(features), model.reading, 4, 1, None), photos[:1], model.size)
    assert len(row["embedding"]) == 1280 and np.std(row["embedding"]) > 0
    with pytest.raises(ValueError, match="not one for --task=classify"):
        artefact.stored(str(features), Wanted("classify"))


@pytest.mark.slow
def test_a_detector_as_saved_model_and_as_file(tmp_path, photos):
    detector = km.SSDLite(alpha=0.1, image_size=64, classes=3)
    suppression = km.NonMaxSuppression(score_threshold=0.0, max_detections=5)
    labels = ["circle", "square", "triangle"]
    version = km.export_saved_model(
        detector, tmp_path / "shapes", labels, tflite="float32", non_max_suppression=suppression
    )
    for path in (version, version / "model.tflite"):
        model = artefact.stored(str(path), Wanted("detect", threshold=0.0))
        rows = judged(handlers.StoredModel(str(path), model.reading, 2, 1, None), photos[:2], model.size)
        for photo, row in zip(photos, rows, strict=False):
            picture = pictures.decode(pictures.read(str(photo)), model.size)
            if path == version:
                expected = tf.saved_model.load(str(path)).signatures["serving_default"](image=picture.data)
            else:
                expected = tf.lite.Interpreter(str(path)).get_signature_runner()(
                    image=picture.data.astype(np.float32) / 127.5 - 1
                )
            expected = {name: np.asarray(value) for name, value in expected.items()}
            np.testing.assert_allclose(row["scores"], expected["scores"][0], atol=1e-4)
            assert row["labels"] == [labels[int(number)] for number in expected["classes"][0]]
            sides = np.array([picture.size[1], picture.size[0]] * 2)
            wanted = (np.clip(expected["boxes"][0], 0, 1) * sides)[:, [1, 0, 3, 2]]
            np.testing.assert_allclose(row["boxes"], wanted, atol=0.6)


def test_errors_that_may_pass():
    assert handlers.may_pass(ClientError(grpc.StatusCode.UNAVAILABLE, "down", "x"))
    assert handlers.may_pass(ClientError(grpc.StatusCode.CANCELLED, "going", "x"))
    assert not handlers.may_pass(ClientError(grpc.StatusCode.NOT_FOUND, "no such model", "x"))
    assert not handlers.may_pass(ValueError("x"))


def test_a_model_that_no_server_serves_is_refused():
    with Client("localhost:1", timeout=0.2) as client, pytest.raises(ValueError, match="cannot be asked about 'none'"):
        artefact.served(client, "none", Wanted("classify"))


@pytest.mark.slow
def test_a_server_gives_the_rows_that_the_stored_model_gives(base, photos, tmp_path):
    paths = link(photos[:60], tmp_path / "in")
    cut = tmp_path / "in" / "cut.jpg"
    cut.write_bytes(photos[0].read_bytes()[:5000])  # its header is whole: the server finds out
    given = [f"--input={tmp_path / 'in'}/**.jpg", "--max_bad_share=0.1"]
    done = run(*given, f"--model={base}", f"--output={tmp_path / 'stored'}")
    assert done.returncode == 0, done.stderr
    with processes.EmbeddedServer(base) as server:
        asked = (
            f"--server={server.address}",
            f"--model_name={processes.MODEL}",
            f"--label_file={base}/1/assets/labels.txt",
        )
        done = run(*given, *asked, f"--output={tmp_path / 'served'}")
    assert done.returncode == 0, done.stderr
    stored, served = read_rows(tmp_path / "stored"), read_rows(tmp_path / "served")
    assert set(stored) == set(served) == set(paths)
    for path in paths:
        np.testing.assert_allclose(sorted(served[path]["scores"]), sorted(stored[path]["scores"]), atol=0.05)
        assert served[path]["version"] == stored[path]["version"] == "1"
    assert np.mean([served[path]["labels"][0] == stored[path]["labels"][0] for path in paths]) > 0.9
    assert read_bad(tmp_path / "served")[str(cut)].startswith("the server refused it: ")
    assert read_bad(tmp_path / "stored")[str(cut)].startswith("it is broken: ")


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back_loses_no_row(base, photos, tmp_path):
    paths = link(photos, tmp_path / "in", repeats=4)
    (port,) = processes.free_ports(1)
    server = processes.EmbeddedServer(base, [f"--port={port}"])
    try:
        given = [f"--input={tmp_path / 'in'}/**.jpg", f"--server=localhost:{port}", f"--model_name={processes.MODEL}"]
        job = subprocess.Popen(
            command(*given, "--at_once=1", "--format=jsonl", f"--output={tmp_path / 'out'}"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not list((tmp_path / "out").glob("beam-temp-rows-*/*")):
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.01)
        server.close()
        time.sleep(3)
        assert job.poll() is None, "the job was over before the server went"
        server = processes.EmbeddedServer(base, [f"--port={port}"])
        said = job.communicate()[1]
        assert job.returncode == 0, said
    finally:
        server.close()
    assert sorted(read_rows(tmp_path / "out")) == sorted(paths)
