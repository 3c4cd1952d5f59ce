"""An exported detector in the embedded server: as SavedModel, and as a .tflite file that ends in LiteRT's operator."""

import base64

import numpy as np
import pytest

import keras_mobilenet as km
from tests.serving.server.calls import post

pytestmark = pytest.mark.slow

LABELS = ["circle", "square", "triangle"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = km.SSDLite(alpha=0.1, image_size=64, classes=3)
    root = tmp_path_factory.mktemp("detectors") / "shapes"
    suppression = km.NonMaxSuppression(score_threshold=0.0, max_detections=5)
    pictures = np.random.default_rng(1).integers(0, 256, (16, 64, 64, 3), np.uint8)
    content = km.convert_tflite(model, "int8", pictures, non_max_suppression=suppression)
    km.export_saved_model(model, root, LABELS, tflite=content, non_max_suppression=suppression)
    return model, root, suppression


@pytest.fixture(scope="module")
def picture():
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return pixels, tf.io.encode_png(pixels).numpy()


def test_a_picture_s_boxes_over_rest(start, exported, picture):
    model, root, suppression = exported
    pixels, encoded = picture
    url = start(model_name="shapes", model_base_path=str(root)).url + "/v1/models/shapes:predict"
    body = {
        "signature_name": "encoded_image",
        "instances": [{"image_bytes": {"b64": base64.b64encode(encoded).decode()}}],
    }
    status, answer = post(url, body)
    assert status == 200
    (row,) = answer["predictions"]
    expected = km.detect(model, km.preprocess_input(pixels[None]), suppression)
    assert row["num_detections"] == expected["num_detections"][0] == 5
    np.testing.assert_allclose(row["scores"], expected["scores"][0], atol=1e-4)
    assert row["class_names"] == [LABELS[int(number)] for number in row["classes"]]
    assert np.shape(row["boxes"]) == (5, 4)


def test_the_tflite_file_answers_with_the_same_outputs(start, exported, picture):
    model, root, suppression = exported
    pixels, _ = picture
    served = start(model_name="shapes", model_base_path=str(root), prefer_tflite_model=True)
    url = served.url + "/v1/models/shapes:predict"
    status, answer = post(url, {"instances": pixels[None].tolist()})
    assert status == 200, answer
    (row,) = answer["predictions"]
    expected = km.detect(model, km.preprocess_input(pixels[None]), suppression)
    np.testing.assert_allclose(row["scores"], expected["scores"][0], atol=0.02)
    assert row.keys() == {"boxes", "classes", "scores", "num_detections"}
