"""Counts are the paper's for COCO's 80 classes and the background; for the 90 numbers of its labels they are higher."""

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import detection
from keras_mobilenet.ssdlite import BACKBONES

SMALL = {"alpha": 0.1, "image_size": 64, "classes": 3}


@pytest.fixture(scope="module")
def small():
    return km.SSDLite(**SMALL)


def heads_alone(build, backbone="mobilenet_v2"):
    """Parameters and multiply-adds of all that a detector has behind its network."""
    whole = km.cost.count(build(backbone, classes=80, scores="softmax"))
    network = km.cost.count(BACKBONES[backbone].builder(input_shape=(320, 320, 3), include_top=False))
    return whole.parameters - network.parameters, whole.multiply_adds - network.multiply_adds


@pytest.mark.parametrize(
    ("backbone", "parameters", "multiply_adds"), [("mobilenet_v1", 5.1, 1.3), ("mobilenet_v2", 4.3, 0.8)]
)
def test_counts_of_table_6(backbone, parameters, multiply_adds):
    found = km.cost.count(km.SSDLite(backbone, classes=80, scores="softmax"))
    assert round(found.parameters / 1e6, 1) == parameters
    assert round(found.multiply_adds / 1e9, 1) == multiply_adds


def test_counts_of_table_5_ssd():
    parameters, multiply_adds = heads_alone(km.SSD)
    assert round(parameters / 1e6, 1) == 14.8
    assert multiply_adds / 1e9 == pytest.approx(1.25, rel=0.01)


def test_counts_of_table_5_ssdlite():
    """The printed 0.35B are multiplications and additions, each counted by itself.

    With 0.35B multiply-adds in the heads, the whole could not have the 0.8B of table 6: the network has 0.61B at 320
    pixels.
    """
    parameters, multiply_adds = heads_alone(km.SSDLite)
    assert round(parameters / 1e6, 1) == 2.1
    assert 2 * multiply_adds / 1e9 == pytest.approx(0.35, rel=0.02)


@pytest.mark.slow
def test_maps_come_from_the_paper_s_layers():
    model = km.SSDLite()
    assert model.get_layer("head_0_boxes_depthwise").input is model.get_layer("block_13_expand_relu").output
    assert model.get_layer("head_0_boxes_depthwise").input.shape[1:] == (20, 20, 576)
    assert model.get_layer("head_1_classes_depthwise").input.shape[1:] == (10, 10, 1280)
    extra = [model.get_layer(f"extra_{number}_relu").output.shape[1:] for number in (1, 2, 3, 4)]
    assert extra == [(5, 5, 512), (3, 3, 256), (2, 2, 256), (1, 1, 128)]
    assert [tuple(output.shape) for output in model.outputs] == [(None, 2034, 4), (None, 2034, 90)]


def test_extra_maps_are_narrowed_and_keep_16_channels(small):
    filters = [small.get_layer(f"extra_{number}").filters for number in (1, 2, 3, 4)]
    assert filters == [51, 25, 25, 16]


@pytest.mark.parametrize("backbone", ["mobilenet_v1", "mobilenet_v2"])
@pytest.mark.parametrize("build", [km.SSDLite, km.SSD])
@pytest.mark.slow
def test_outputs_belong_to_the_anchors(build, backbone):
    model = build(backbone, **SMALL, scores="softmax")
    head = detection.head_of(model)
    assert head.anchors.sizes == (4, 2, 1, 1, 1, 1)
    assert (head.scores, head.classes) == ("softmax", 3)
    boxes, logits = model(np.zeros((2, 64, 64, 3), np.float32), training=False)
    assert boxes.shape == (2, len(head.anchors.boxes), 4)
    assert logits.shape == (2, len(head.anchors.boxes), 4)


def test_an_output_stands_at_its_anchor(small):
    """A change in one corner of the picture moves the first map's outputs near that corner, and not the far ones."""
    images = np.zeros((2, 64, 64, 3), np.float32)
    images[1, :8, -8:] = 1.0  # top right
    model = km.SSDLite("mobilenet_v1", 0.25, 224, 3)
    images = np.zeros((2, 224, 224, 3), np.float32)
    images[1, :8, -8:] = 1.0
    boxes = np.asarray(model(images, training=False)[0])
    anchors = detection.head_of(model).anchors
    first = slice(0, 3 * anchors.sizes[0] ** 2)
    change = np.abs(boxes[1] - boxes[0]).max(-1)[first]
    y, x = anchors.boxes[first][np.argmax(change), :2]
    assert y < 0.4
    assert x > 0.6


def test_a_file_keeps_the_anchors(small, tmp_path):
    small.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert detection.head_of(again) == detection.head_of(small)
    images = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    for one, other in zip(small(images, training=False), again(images, training=False), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_weights_of_a_whole_detector(small, tmp_path, recwarn):
    small.save_weights(tmp_path / "model.weights.h5")
    keras.utils.set_random_seed(5)
    again = km.SSDLite(**SMALL, weights=tmp_path / "model.weights.h5")
    assert not [warning for warning in recwarn if warning.category is UserWarning]
    for one, other in zip(small.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_heads_of_other_classes_are_named(small, tmp_path):
    small.save_weights(tmp_path / "model.weights.h5")
    with pytest.warns(UserWarning, match="no weights that fit `head_0_classes`"):
        again = km.SSDLite(**SMALL | {"classes": 5}, weights=tmp_path / "model.weights.h5")
    for layer in ("block_3_expand", "extra_2", "head_1_boxes"):
        np.testing.assert_array_equal(again.get_layer(layer).get_weights()[0], small.get_layer(layer).get_weights()[0])


def test_weights_of_the_network_alone(shared_data, recwarn):
    path = shared_data / "weights" / "mobilenet_v2_0.35_224_no_top_float.h5"
    model = km.SSDLite(alpha=0.35, image_size=96, classes=3, weights=path)
    assert not [warning for warning in recwarn if warning.category is UserWarning]
    network = km.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=path)
    for layer in (layer for layer in network.layers if layer.weights):
        for one, other in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_weights_of_a_quantized_network(shared_data, recwarn):
    path = shared_data / "weights" / "mobilenet_v1_0.25_128_quant.tflite"
    model = km.SSDLite("mobilenet_v1", 0.25, 128, 3, weights=path)
    network = km.MobileNetV1((128, 128, 3), 0.25, include_top=False, weights=path)
    name = "conv_pw_13"
    np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], network.get_layer(name).get_weights()[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet"}, "`backbone='resnet'` is not one of 'mobilenet_v1', 'mobilenet_v2'"),
        ({"alpha": 0}, "`alpha=0` is not a width multiplier"),
        ({"image_size": 16}, "`image_size=16` is too small: pass at least 32 pixels"),
        ({"image_size": (320, 320)}, r"`image_size=\(320, 320\)` is not a whole number"),
        ({"classes": 0}, "`classes=0` is not a whole number of at least 1"),
        ({"scores": "relu"}, "`scores='relu'` is not one of 'sigmoid', 'softmax'"),
        ({"convolution": "both"}, "`convolution='both'` is not one of"),
        ({"batch_norm_momentum": 1.0}, "`batch_norm_momentum=1.0` is not a share"),
        ({"weights": "nowhere.h5"}, "there is no file nowhere.h5"),
        ({"anchor_scales": (0.0, 0.5)}, "pass 0 < lowest <= highest"),
    ],
)
def test_an_argument_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        km.SSDLite(**SMALL | options)
