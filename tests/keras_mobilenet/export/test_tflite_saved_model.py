"""`model.tflite` in an exported version."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_mobilenet as km
from keras_mobilenet import tflite_file
from tests.keras_mobilenet.optimization.networks import images, settle, small

LABELS = [f"class {number}" for number in range(5)]


@pytest.fixture(scope="module")
def aware():
    return km.quantize_aware(settle(small()), images())


@pytest.fixture(scope="module")
def int8(aware):
    return km.convert_tflite(aware, "int8")


def test_a_version_carries_the_file_that_it_is_given(aware, int8, tmp_path):
    (tmp_path / "converted.tflite").write_bytes(int8)
    for given in (int8, tmp_path / "converted.tflite", str(tmp_path / "converted.tflite")):
        version = km.export_saved_model(aware, tmp_path / "net", LABELS, tflite=given)
        assert (version / "model.tflite").read_bytes() == int8
        assert (version / "saved_model.pb").exists()


def test_a_version_converts_the_model_that_it_holds(aware, tmp_path):
    version = km.export_saved_model(aware, tmp_path / "net", LABELS, tflite="int8")
    file = tflite_file.read(version / "model.tflite")
    assert "signature_defs_metadata" in file.metadata
    runner = Interpreter(str(version / "model.tflite")).get_signature_runner("serving_default")
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    served = km.Predictor(version).predict({"image": picture})["probabilities"]
    np.testing.assert_allclose(runner(image=picture)["probabilities"] / 256.0, served, atol=0.02)


def test_a_version_without_has_none(aware, tmp_path):
    assert not (km.export_saved_model(aware, tmp_path / "net") / "model.tflite").exists()


def test_a_file_of_another_model_is_refused(aware, int8, tmp_path, shared_data):
    other = km.MobileNetV2((32, 32, 3), 0.35, classes=7, weights=None)
    coral = shared_data / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    for model, given, error, message in [
        (other, int8, ValueError, r"'probabilities': \(5,\)}, but .*'probabilities': \(7,\)"),
        (aware, coral, ValueError, "no signature for TF Serving: make it with km.convert_tflite"),
        (aware, b"not a model", ValueError, "isn't a .tflite file"),
        (aware, int8[: len(int8) // 2], ValueError, "truncated or damaged"),
        (aware, tmp_path / "nowhere.tflite", FileNotFoundError, "nowhere"),
        (other, "int8", ValueError, "is a float model"),
    ]:
        with pytest.raises(error, match=message):
            km.export_saved_model(model, tmp_path / "net", tflite=given)
    assert not (tmp_path / "net").exists()
