import pathlib

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import arguments

BOTH = (km.MobileNetV1, km.MobileNetV2)

# What is wrong; what the message has to hold: the value, what is allowed, the way out.
WRONG = [
    ({"alpha": 0}, ["`alpha=0`", "a number above 0, such as 1.0 or 0.35"]),
    ({"alpha": -0.5}, ["`alpha=-0.5`", "above 0"]),
    ({"alpha": "1.0"}, ["`alpha='1.0'`", "above 0"]),
    ({"alpha": float("nan")}, ["`alpha=nan`", "above 0"]),
    ({"alpha": float("inf")}, ["`alpha=inf`", "above 0"]),
    ({"alpha": True}, ["`alpha=True`", "above 0"]),
    ({"alpha": None}, ["`alpha=None`", "above 0"]),
    ({"classes": 0}, ["`classes=0`", "whole number of at least 1", "include_top=False"]),
    ({"classes": 2.5}, ["`classes=2.5`", "whole number of at least 1"]),
    ({"classes": "ten"}, ["`classes='ten'`", "whole number of at least 1"]),
    ({"classes": True}, ["`classes=True`", "whole number"]),
    ({"pooling": "mean"}, ["`pooling='mean'`", "None, 'avg', 'max'"]),
    ({"output_stride": 4}, ["`output_stride=4`", "32, 16, 8"]),
    ({"output_stride": 16.0}, ["`output_stride=16.0`", "32, 16, 8"]),
    ({"batch_norm_momentum": 1}, ["`batch_norm_momentum=1`", "from 0 to below 1"]),
    ({"batch_norm_momentum": "0.9"}, ["`batch_norm_momentum='0.9'`", "from 0 to below 1"]),
    ({"dropout": 1.0}, ["`dropout=1.0`", "from 0 to below 1"]),
    ({"dropout": -0.1}, ["`dropout=-0.1`", "from 0 to below 1"]),
    ({"input_shape": (31, 224, 3)}, ["`input_shape=(31, 224, 3)`", "at least 32 pixels or None", "(224, 224, 3)"]),
    ({"input_shape": (224, 224)}, ["`input_shape=(224, 224)`", "(height, width, channels)"]),
    ({"input_shape": (1, 224, 224, 3)}, ["`input_shape=(1, 224, 224, 3)`", "(height, width, channels)"]),
    ({"input_shape": (3, 224, 224)}, ["`input_shape=(3, 224, 224)`", "channels last"]),
    ({"input_shape": (224.5, 224, 3)}, ["`input_shape=(224.5, 224, 3)`", "at least 32"]),
    ({"input_shape": (224, 224, None)}, ["`input_shape=(224, 224, None)`", "channels"]),
    ({"input_shape": (224, 224, 0)}, ["`input_shape=(224, 224, 0)`", "channels"]),
    ({"input_shape": 224}, ["`input_shape=224`", "(height, width, channels)"]),
    ({"input_shape": "large"}, ["`input_shape='large'`", "(height, width, channels)"]),
    ({"input_tensor": np.zeros((1, 64, 64, 3))}, ["`input_tensor` is a ndarray", "keras.Input"]),
    ({"input_tensor": keras.Input((16, 64, 3))}, ["`input_tensor.shape[1:]=(16, 64, 3)`", "at least 32"]),
    (
        {"input_tensor": keras.Input((64, 64, 3)), "input_shape": (96, 96, 3)},
        ["`input_shape=(96, 96, 3)`", "images are (64, 64, 3)", "leave one"],
    ),
    ({"weights": "imagenet", "classes": 10}, ["`classes=10`", "1000", "include_top=False"]),
    (
        {"weights": "imagenet", "classifier_activation": "relu"},
        ["`classifier_activation='relu'`", '"softmax"', "None for logits"],
    ),
]
V1_WRONG = [
    ({"depth_multiplier": 0}, ["`depth_multiplier=0`", "whole number of at least 1"]),
    ({"depth_multiplier": 1.5}, ["`depth_multiplier=1.5`", "whole number of at least 1"]),
    ({"convolution": "depthwise"}, ["`convolution='depthwise'`", "'depthwise_separable', 'standard'"]),
]
V2_WRONG = [
    ({"bottleneck_activation": "relu"}, ["`bottleneck_activation='relu'`", "None, 'relu6'"]),
    ({"shortcut": "both"}, ["`shortcut='both'`", "'bottleneck', 'expansion', None"]),
    ({"shortcut": False}, ["`shortcut=False`", "'bottleneck', 'expansion', None"]),
    ({"stages": []}, ["`stages=[]`", "Stage(expansion, filters, repeats, stride)", "STAGES"]),
    ({"stages": [(6, 24, 2, 2)]}, ["`stages=[(6, 24, 2, 2)]`", "Stage(expansion, filters, repeats, stride)"]),
    (
        {"stages": [km.Stage(6, 24, 0, 2)]},
        ["Stage(expansion=6, filters=24, repeats=0, stride=2).repeats=0", "at least 1"],
    ),
    ({"stages": [km.Stage(6, 24.0, 1, 2)]}, [".filters=24.0", "whole number"]),
]


@pytest.mark.parametrize(
    ("build", "wrong", "parts"),
    [(build, *row) for row in WRONG for build in BOTH]
    + [(km.MobileNetV1, *row) for row in V1_WRONG]
    + [(km.MobileNetV2, *row) for row in V2_WRONG],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(build, wrong, parts):
    with pytest.raises(ValueError) as raised:
        build(**wrong)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("weights", ["imagenette", "no/such/file.h5", pathlib.Path("missing.keras"), 3])
def test_wrong_weights_are_named(build, weights):
    with pytest.raises((ValueError, FileNotFoundError, TypeError)) as raised:
        build(alpha=0.25, input_shape=(32, 32, 3), weights=weights)
    assert str(weights) in str(raised.value)


def test_channels_first_is_refused_with_the_way_out():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r'channels_first.*set_image_data_format\("channels_last"\)'):
            km.MobileNetV2()
    finally:
        keras.config.set_image_data_format("channels_last")


def test_classes_do_not_matter_without_the_classifier():
    assert km.MobileNetV1(alpha=0.1, include_top=False, classes=0).output_shape == (None, None, None, 102)


def test_numpy_numbers_are_numbers():
    model = km.MobileNetV1((np.int64(32), 32, 3), np.float32(0.25), classes=np.int64(3), output_stride=32)
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize("build", BOTH)
def test_input_tensor_takes_the_place_of_the_input(build):
    raw = keras.Input((40, 48, 3), dtype="uint8", name="raw")
    model = build(alpha=0.1, input_tensor=km.preprocess_input(raw), classes=4)
    assert model.input is raw or model.inputs == [raw]
    assert model(np.zeros((2, 40, 48, 3), "uint8")).shape == (2, 4)
    first, second = keras.Input((32, 32, 1)), keras.Input((32, 32, 2))
    both = build(alpha=0.1, input_tensor=keras.layers.Concatenate()([first, second]), include_top=False, pooling="avg")
    assert len(both.inputs) == 2


@pytest.mark.parametrize(
    ("strides", "output_stride", "expected"),
    [
        ([1, 2, 1, 2, 1, 2, 1], 32, [(1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1)]),
        ([1, 2, 1, 2, 1, 2, 1], 8, [(1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 2)]),
        ([2, 2, 2, 2, 1], 8, [(2, 1), (2, 1), (1, 1), (1, 2), (1, 4)]),
        ([], 32, []),
    ],
)
def test_dilate(strides, output_stride, expected):
    assert arguments.dilate(strides, output_stride) == expected
