"""The tables of training.int8, on Coral's file and the shared photos."""

import pytest

import keras_mobilenet as km
from keras_mobilenet import tflite_file
from tests.keras_mobilenet.optimization.networks import settle, small
from training import parity
from training.int8 import accuracy, latency, zoo

OPERATORS = {"QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "RESHAPE", "SOFTMAX"}


def test_files_take_turns(tmp_path):
    content = km.convert_tflite(settle(small()))
    times = latency.timed({"one": content, "two": content}, tmp_path, rounds=3, runs=2, threads=1, size=32)
    assert list(times) == ["one", "two"]
    for own in times.values():
        assert 0 < own.low <= own.median <= own.high


def test_versions_are_the_newest_of_their_kind(shared_data):
    content = (shared_data / "weights" / latency.CORAL).read_bytes()
    listed = dict(entry.rsplit(" ", 1) for entry in latency.operators(content).split(", "))
    assert listed["CONV_2D"] == "3"
    assert {operator.name for operator in tflite_file.read(content).main.operators} == set(listed)


def test_a_network_of_the_zoo_maps_whole():
    length, report = zoo.checked("mobilenet_v1", 0.25, 128)
    assert report.fully_mapped
    assert not report.cpu_operators
    assert length > 470_072  # a byte for each weight


@pytest.mark.slow
def test_our_file_beside_corals(shared_data):
    contents = latency.files(shared_data)
    coral, int8, dense, sparse = contents.values()
    theirs = tflite_file.read(coral).main.operators
    newest = {name: max(o.version for o in theirs if o.name == name) for name in {o.name for o in theirs}}
    for operator in tflite_file.read(int8).main.operators:
        assert operator.name in OPERATORS
        assert operator.version <= newest[operator.name]
    assert len(sparse) <= 0.6 * len(dense)


@pytest.mark.slow
def test_post_training_int8_loses_at_most_a_point(shared_data):
    pictures = parity.read_pictures(shared_data, 400)
    model = km.MobileNetV1((224, 224, 3), 0.25, weights=shared_data / "weights" / accuracy.WEIGHTS)
    photos = accuracy.calibration_pictures(shared_data)
    content = km.convert_tflite(km.quantize_post_training(model, photos), "int8")
    top_1, _ = parity.accuracy(accuracy.litert_scores(content, pictures, threads=2), pictures.labels)
    assert top_1 >= 49.5
