import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import blocks


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        *((32 * 0.35, 16), (32 * 0.5, 16), (32 * 0.75, 24), (32 * 1.3, 40), (32 * 1.4, 48)),  # the published stems
        *((1, 8), (5, 8), (8, 8), (11.9, 16), (12, 16), (17.7, 16), (18, 24), (20, 24), (33, 32), (1792, 1792)),
    ],
)
def test_make_divisible(channels, expected):
    assert blocks.make_divisible(channels) == expected


def test_make_divisible_never_goes_more_than_a_tenth_below():
    for channels in np.arange(1, 400, 0.7):
        for divisor in (1, 4, 8):
            rounded = blocks.make_divisible(channels, divisor)
            assert rounded % divisor == 0 and rounded >= 0.9 * channels and rounded < channels + 2 * divisor


@pytest.mark.parametrize("size", [(9, 14), (None, None)])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_equals_same_padding(size, stride):
    """The padding layer and the "valid" convolution behind it are one "same" convolution, at odd and even sizes."""
    image = keras.Input((*size, 4))
    names = {"name": "dw", "batch_norm": "bn", "relu6": "relu", "padding": "pad"}
    outputs = blocks.depthwise(image, **names, stride=stride, momentum=0.9)
    model = keras.Model(image, outputs)
    same = keras.layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)
    for height, width in [(9, 14)] if size[0] else [(9, 14), (14, 9), (7, 7)]:
        x = np.random.default_rng(0).normal(size=(2, height, width, 4)).astype("float32")
        same(x)
        same.set_weights(model.get_layer("dw").get_weights())
        expected = np.clip(same(x) / np.sqrt(1 + blocks.EPSILON), 0, 6)
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
    assert ("pad" in [layer.name for layer in model.layers]) == (stride == 2)


def inverted_residual(channels, filters, **options):
    image = keras.Input((8, 8, channels))
    options = {"expansion": 6, "prefix": "block_", "momentum": 0.9} | options
    bottleneck, expansion = blocks.inverted_residual(image, filters, **options)
    return keras.Model(image, [bottleneck, expansion])


@pytest.mark.parametrize(
    ("channels", "filters", "stride", "shortcut", "adds"),
    [
        (8, 8, 1, "bottleneck", True),
        (8, 16, 1, "bottleneck", False),
        (8, 8, 2, "bottleneck", False),
        (8, 8, 1, None, False),
        (8, 8, 1, "expansion", False),
    ],
)
def test_shortcut_stands_where_stride_is_1_and_shapes_are_equal(channels, filters, stride, shortcut, adds):
    model = inverted_residual(channels, filters, stride=stride, shortcut=shortcut)
    assert ("block_add" in [layer.name for layer in model.layers]) == adds
    bottleneck, expansion = model.outputs
    assert bottleneck.shape == (None, 8 // stride, 8 // stride, filters) and expansion.shape == (
        None,
        8,
        8,
        6 * channels,
    )
    if adds:
        model.get_layer("block_project_BN").set_weights([np.zeros(filters)] * 3 + [np.ones(filters)])
        x = np.random.default_rng(0).normal(size=(1, 8, 8, channels)).astype("float32")
        np.testing.assert_array_equal(model(x)[0], x)  # nothing but the shortcut is left


def test_bottleneck_is_linear_unless_asked():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype("float32") * 50
    linear = inverted_residual(8, 16)(x)[0].numpy()
    clipped = inverted_residual(8, 16, bottleneck_activation="relu6")(x)[0].numpy()
    assert linear.min() < 0 and clipped.min() == 0 and clipped.max() <= 6


def test_shortcut_between_expansions():
    image = keras.Input((8, 8, 4))
    options = {"expansion": 6, "momentum": 0.9, "shortcut": "expansion"}
    x, first = blocks.inverted_residual(image, 4, prefix="a_", **options)
    x, second = blocks.inverted_residual(x, 6, prefix="b_", previous_expansion=first, **options)
    x, _ = blocks.inverted_residual(x, 6, prefix="c_", previous_expansion=second, **options)
    model = keras.Model(image, [first, second, x])
    names = [layer.name for layer in model.layers]
    assert "b_expand_add" in names and "c_expand_add" not in names and not {"a_add", "b_add", "c_add"} & set(names)
    alone = keras.Model(image, [model.get_layer("b_expand_relu").output, first, second])
    relu, first, second = alone(np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("float32"))
    np.testing.assert_allclose(second, relu + first, atol=1e-6)


def test_expansion_of_1_has_no_expanding_convolution():
    model = inverted_residual(8, 16, expansion=1)
    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    names = [layer.name for layer in model.layers if isinstance(layer, convolutions)]
    assert names == ["block_depthwise", "block_project"]


def test_batch_norms_have_the_given_momentum_and_the_checkpoints_epsilon():
    for layer in inverted_residual(8, 8, momentum=0.42).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert isinstance(layer, km.BatchNormalization) and (layer.momentum, layer.epsilon) == (0.42, 1e-3)
