import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import mobilenet_v1
from tests.keras_mobilenet.peers import assert_equal_outputs, randomize, structure

PARAMETERS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}
SIZES = (224, 192, 160, 128)


def trainable(model):
    return sum(weight.numpy().size for weight in model.trainable_weights)


def test_table_1():
    """The paper's rows as it prints them, its last stride put right."""
    rows = [(row.filters, row.stride) for row in mobilenet_v1.BLOCKS]
    assert rows == [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [pytest.param(*row, marks=[] if row[0] == 1 else pytest.mark.slow) for row in PARAMETERS.items()],
)
def test_parameters(alpha, expected):
    assert trainable(km.MobileNetV1(alpha=alpha)) == expected


@pytest.mark.parametrize(
    ("options", "expected"), [({"convolution": "standard"}, 29_294_088), ({"shallow": True}, 2_887_976)]
)
def test_parameters_of_the_variants(options, expected):
    assert trainable(km.MobileNetV1(**options)) == expected


@pytest.mark.parametrize(("alpha", "filters"), [(0.1, (3, 6, 102)), (0.25, (8, 16, 256)), (2.0, (64, 128, 2048))])
def test_widths_are_rounded_down(alpha, filters):
    model = km.MobileNetV1(alpha=alpha, include_top=False)
    assert tuple(model.get_layer(name).filters for name in ("conv1", "conv_pw_1", "conv_pw_13")) == filters
    assert km.MobileNetV1(alpha=0.001, include_top=False).output_shape[-1] == 1


def test_arguments_stand_in_the_order_of_keras_applications():
    ours = list(inspect.signature(km.MobileNetV1).parameters.values())
    theirs = list(inspect.signature(keras.applications.MobileNet).parameters.values())
    positional = [parameter for parameter in ours if parameter.kind is not parameter.KEYWORD_ONLY]
    assert [p.name for p in positional] == [p.name for p in theirs]
    assert {p.name for p, q in zip(positional, theirs, strict=True) if p.default != q.default} == {"weights"}
    assert inspect.signature(km.MobileNetV1).parameters["weights"].default is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.5, "include_top": False, "input_shape": (96, 96, 3)},
        {"alpha": 0.25, "include_top": False, "pooling": "max", "input_shape": (64, 64, 1)},
        {"alpha": 0.25, "depth_multiplier": 2, "classes": 7, "input_shape": (128, 128, 3)},
    ],
)
def test_layers_are_those_of_keras_applications(options):
    ours, theirs = km.MobileNetV1(**options), keras.applications.MobileNet(weights=None, **options)
    assert structure(ours) == structure(theirs)
    assert ours.output_shape == theirs.output_shape
    named = [layer.name for layer in theirs.layers if not layer.name.startswith(("input_layer", "global_"))]
    assert [layer.name for layer in ours.layers if not layer.name.startswith(("input_layer", "global_"))] == named
    if not options:
        assert ours.name == theirs.name == "mobilenet_1.00_224"


@pytest.mark.parametrize(
    ("alpha", "size"),
    [
        pytest.param(alpha, size, marks=[] if (alpha, size) == (0.25, 128) else pytest.mark.slow)
        for alpha in PARAMETERS
        for size in SIZES
    ],
)
def test_outputs_equal_keras_applications(alpha, size):
    options = {"alpha": alpha, "input_shape": (size, size, 3)}
    assert_equal_outputs(km.MobileNetV1(**options), keras.applications.MobileNet(weights=None, **options), size)


def test_files_of_keras_applications_load(tmp_path):
    options = {"alpha": 0.25, "input_shape": (32, 32, 3), "classes": 5}
    theirs = keras.applications.MobileNet(weights=None, **options)
    theirs.save(tmp_path / "model.h5")
    theirs.save_weights(tmp_path / "model.weights.h5")
    for name in ("model.h5", "model.weights.h5"):
        ours = km.MobileNetV1(**options)
        ours.load_weights(tmp_path / name)
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v1_0.25_128_slim_float.h5", {"input_shape": (128, 128, 3)}),
        ("mobilenet_2_5_224_tf_no_top.h5", {"include_top": False, "input_shape": (128, 128, 3)}),
    ],
)
def test_published_weights_give_the_outputs_of_keras_applications(shared_data, name, options):
    ours = km.MobileNetV1(alpha=0.25, **options)
    theirs = keras.applications.MobileNet(weights=None, alpha=0.25, **options)
    for model in (ours, theirs):
        model.load_weights(shared_data / "weights" / name)
    pictures = km.decode_and_resize([(shared_data / "photos" / "cat_720p.jpg").read_bytes()], (128, 128))
    expected = theirs(km.preprocess_input(pictures)).numpy()
    np.testing.assert_allclose(ours(km.preprocess_input(pictures)), expected, atol=1e-5)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("size", [(65, 97), (129, 65)])
def test_dilated_network_computes_the_same_between_the_strides(output_stride, size):
    """At sizes of 1 + 32 k every stride samples the odd pixels, so the dilated map holds the other one."""
    models = [
        km.MobileNetV1(alpha=0.25, include_top=False, input_shape=(None, None, 3), output_stride=stride)
        for stride in (32, output_stride)
    ]
    randomize(models[0], batch_norm=False)
    models[1].set_weights(models[0].get_weights())
    picture = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype("float32")
    coarse, fine = (model(picture) for model in models)
    step = 32 // output_stride
    assert fine.shape[1:3] == tuple((side - 1) // output_stride + 1 for side in size)
    np.testing.assert_allclose(fine[:, ::step, ::step], coarse, atol=1e-4)
    assert np.mean(np.abs(coarse - fine[:, 1:2, 1:2])) > 1e-2


def test_shallow_takes_out_the_five_blocks():
    shallow, full = km.MobileNetV1(shallow=True), km.MobileNetV1()
    assert sum(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in shallow.layers) == 8
    shapes = [layer.output.shape[1:] for layer in shallow.layers if layer.name.endswith("_relu")]
    expected = [layer.output.shape[1:] for layer in full.layers if layer.name.endswith("_relu")]
    for _ in range(10):
        expected.remove((14, 14, 512))
    assert shapes == expected


def test_conv_mobilenet_has_standard_convolutions():
    model = km.MobileNetV1(alpha=0.25, convolution="standard", input_shape=(64, 64, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3)] * 14 + [(1, 1)]
    assert [layer.strides[0] for layer in convolutions[1:-1]] == [row.stride for row in mobilenet_v1.BLOCKS]


def test_logits_and_dropout():
    model = km.MobileNetV1(alpha=0.1, input_shape=(32, 32, 3), classes=6, classifier_activation=None, dropout=0.5)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype("float32")
    model.get_layer("conv_preds").set_weights([np.random.default_rng(1).normal(size=(1, 1, 102, 6)), np.zeros(6)])
    assert model(picture).numpy().min() < 0
    assert model.get_layer("dropout").rate == 0.5
    tf.debugging.assert_near(model(picture), model(picture))
