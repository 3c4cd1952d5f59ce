"""An exported segmenter in the embedded server, over REST and on the page."""

import base64
import io

import keras
import numpy as np
import pytest
from PIL import Image

import keras_mobilenet as km
from tests.serving.server.calls import post
from tests.serving.server.test_demo_page import Page, driver, root  # noqa: F401

pytestmark = pytest.mark.slow

LABELS = ["ground", "circle", "square", "triangle"]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = km.DeepLabV3("mobilenet_v1", 0.1, (65, 97), classes=len(LABELS))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name != "image_pooling_bn":
            layer.momentum = 0.0
    model(km.preprocess_input(picture()[None]), training=True)
    return model


@pytest.fixture(scope="module")
def served(start, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenters") / "shapes"
    tflite = km.convert_tflite(model, "int8", picture()[None], labels=LABELS)
    km.export_saved_model(model, folder, LABELS, tflite=tflite)
    return folder, start(model_name="shapes", model_base_path=str(folder))


def picture():
    tiles = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return tiles.repeat(16, 0).repeat(16, 1)[:65, :97]


def png():
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    return stream.getvalue()


def class_map(model):
    return np.argmax(model(km.preprocess_input(picture()[None])), -1)[0]


def test_a_pictures_class_map_over_rest(served, model):
    encoded = {"image_bytes": {"b64": base64.b64encode(png()).decode()}}
    body = {"signature_name": "encoded_image", "instances": [encoded]}
    status, answer = post(served[1].url + "/v1/models/shapes:predict", body)
    assert status == 200, answer
    (row,) = answer["predictions"]
    assert (np.array(row["class_map"]) == class_map(model)).mean() > 0.999
    assert np.shape(row["probabilities"]) == (5, 7, 4) and row["class_names"] == LABELS


def test_the_tflite_file_answers_with_a_class_map(start, served):
    url = start(model_name="shapes", model_base_path=str(served[0]), prefer_tflite_model=True).url
    body = {"instances": picture()[None].tolist()}
    status, answer = post(url + "/v1/models/shapes:predict", body)
    assert status == 200, answer
    (row,) = answer["predictions"]
    expected = km.Predictor(served[0] / "1" / "model.tflite").predict(picture()[None])["class_map"][0]
    np.testing.assert_array_equal(row, expected)  # a single output stands without its name


def test_the_page_paints_the_mask_and_names_its_classes(driver, served, model, tmp_path):  # noqa: F811
    (tmp_path / "tiles.png").write_bytes(png())
    page = Page(driver)
    page.open(served[1].url)
    page.choose(tmp_path / "tiles.png")
    rows = {name: float(text.removesuffix(" %")) for name, text in page.rows()}
    numbers, pixels = np.unique(class_map(model), return_counts=True)
    expected = {LABELS[n]: 100 * p / (65 * 97) for n, p in zip(numbers, pixels, strict=True)}
    assert rows == pytest.approx(expected, abs=0.2)
