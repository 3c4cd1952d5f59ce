from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import keras_mobilenet as km
from keras_mobilenet.optimization.fake_quant import FixedFakeQuant
from tests.keras_mobilenet.optimization.networks import images, settle, small


def to_int8(folded):
    """The int8 file of a folded quantization-aware model, without data: every range stands in the model."""
    shape = tf.TensorSpec((1, *folded.inputs[0].shape[1:]), tf.float32)
    function = tf.function(lambda image: folded(image, training=False), input_signature=[shape])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


class Int8:
    def __init__(self, file):
        self.interpreter = Interpreter(model_content=file)
        self.interpreter.allocate_tensors()
        self.operators = Counter(op["op_name"] for op in self.interpreter._get_ops_details())

    def predict(self, pictures):
        (image,), outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        results = []
        for picture in pictures:
            self.interpreter.set_tensor(image["index"], picture[None])
            self.interpreter.invoke()
            results.append([self.interpreter.get_tensor(output["index"])[0] for output in outputs])
        return [np.stack(result) for result in zip(*results, strict=True)]

    def kernels(self):
        """The int8 constants of the file that are kernels of convolutions, by shape."""
        found = {}
        for tensor in self.interpreter.get_tensor_details():
            if tensor["dtype"] == np.int8 and len(tensor["quantization_parameters"]["scales"]) > 1:
                found.setdefault(tuple(tensor["shape"]), []).append(self.interpreter.get_tensor(tensor["index"]))
        return found


def test_folded_float_model_computes_the_same():
    model, x = settle(small()), images()
    folded = km.fold_batch_norm(model)
    np.testing.assert_allclose(folded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    kinds = {type(layer) for layer in folded.layers}
    assert not kinds & {km.BatchNormalization, layers.Dropout, km.layers.SamePadding2D}
    assert not folded.trainable_weights
    assert folded.name == model.name and folded.output_names == model.output_names


@pytest.mark.parametrize("size", [32, 33, (47, 32)])
def test_padding_moves_into_the_convolution_at_every_size(size):
    size = (size, size) if isinstance(size, int) else size
    model = settle(km.MobileNetV1((None, None, 3), alpha=0.25, include_top=False, pooling="avg"))
    x = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype("float32")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        km.fold_batch_norm(model).predict(x, verbose=0), expected, atol=1e-3 * np.abs(expected).max()
    )


def test_folds_into_every_kind_of_kernel():
    inputs = keras.Input((8, 8, 3))
    x = km.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
    x = layers.BatchNormalization(scale=False)(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
    x = layers.BatchNormalization(center=False)(layers.Dense(6)(layers.Flatten()(x)))
    model = keras.Model(inputs, x)
    model.set_weights([np.random.default_rng(0).uniform(0.5, 1.5, weight.shape) for weight in model.weights])
    folded = km.fold_batch_norm(model)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)
    np.testing.assert_allclose(folded(images(4, 8)), model(images(4, 8)), rtol=1e-4)


def test_leaves_batch_norm_that_has_no_kernel_of_its_own():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(4, 3, name="read_twice")(inputs)
    x = layers.Add()([km.BatchNormalization(name="kept")(conv), conv])
    model = settle(keras.Model(inputs, km.BatchNormalization(name="behind_add")(x)))
    folded = km.fold_batch_norm(model)
    assert {"kept", "behind_add"} <= {layer.name for layer in folded.layers}
    np.testing.assert_allclose(folded(images(4, 8)), model(images(4, 8)), atol=1e-5)


@pytest.fixture(scope="module")
def aware():
    return km.quantize_aware(settle(small(activation=None)), images(64))


def test_folded_kernels_lie_on_the_trained_grid(aware):
    folded = km.fold_batch_norm(aware)
    for layer in aware.layers:
        if not hasattr(layer, "fake_quantized_kernel"):
            continue
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        axes = (0, 1, 3) if depthwise else tuple(range(len(layer.kernel.shape) - 1))
        trained, inference = np.asarray(layer.kernel), folded.get_layer(layer.name).get_weights()[0]
        steps = np.abs(trained).max(axes, keepdims=True) / 127
        integers = inference / (np.abs(inference).max(axes, keepdims=True) / 127)
        np.testing.assert_allclose(np.abs(integers), np.abs(np.round(trained / steps)), atol=2e-3, err_msg=layer.name)


def test_folded_model_is_keras_and_computes_what_the_trained_one_does(aware, tmp_path):
    folded, x = km.fold_batch_norm(aware), images(32, seed=5)
    assert not folded.trainable_weights
    for layer in folded.layers:
        assert type(layer).__module__.startswith("keras.") or isinstance(layer, FixedFakeQuant)
    outputs, expected = folded.predict(x, verbose=0), aware.predict(x, verbose=0)
    # Folding multiplies in another order; where that crosses a rounding edge, an activation moves by one step.
    assert np.abs(outputs - expected).mean() < 0.02 * np.abs(expected).mean()
    folded.save(tmp_path / "folded.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "folded.keras").predict(x, verbose=0), outputs)


def test_folding_after_training_takes_the_final_kernels(aware):
    """No step to forget: evaluation and folding both take the ranges of the kernels as they are."""
    kernel = aware.get_layer("stem").get_weights()[0]
    aware.get_layer("stem").set_weights([kernel * np.linspace(0.5, 3, kernel.shape[-1])])
    try:
        outputs, expected = km.fold_batch_norm(aware).predict(images(), verbose=0), aware.predict(images(), verbose=0)
        assert np.abs(outputs - expected).mean() < 0.02 * np.abs(expected).mean()
    finally:
        aware.get_layer("stem").set_weights([kernel])


def test_softmax_of_the_classifier_becomes_a_layer_of_its_own():
    aware = km.quantize_aware(settle(small()), images(32))
    folded = km.fold_batch_norm(aware)
    kinds = [type(layer) for layer in folded.layers[-3:]]
    assert kinds == [layers.Dense, FixedFakeQuant, layers.Activation]
    np.testing.assert_allclose(folded.predict(images(), verbose=0), aware.predict(images(), verbose=0), atol=0.02)


def test_the_int8_file_holds_the_trained_integers(aware):
    """Every kernel in the file against the integers that the model was trained with, up to the sign of gamma."""
    file = Int8(to_int8(km.fold_batch_norm(aware)))
    kernels = file.kernels()
    compared = 0
    for layer in aware.layers:
        if not hasattr(layer, "fake_quantized_kernel"):
            continue
        trained = np.asarray(layer.kernel)
        if isinstance(layer, layers.DepthwiseConv2D):
            steps, order = np.abs(trained).max((0, 1), keepdims=True) / 127, (3, 0, 1, 2)
        else:
            axes = tuple(range(trained.ndim - 1))
            steps, order = np.abs(trained).max(axes, keepdims=True) / 127, (trained.ndim - 1, *axes)
        integers = np.abs(np.round(trained / steps).transpose(order))
        candidates = kernels[tuple(int(side) for side in integers.shape)]
        assert any(np.array_equal(np.abs(candidate.astype(int)), integers) for candidate in candidates), layer.name
        compared += 1
    assert compared == 8


def test_the_int8_file_computes_what_the_trained_model_does(aware):
    x = images(64, seed=7)
    file = Int8(to_int8(km.fold_batch_norm(aware)))
    (outputs,), expected = file.predict(x), aware.predict(x, verbose=0)
    step = (
        float(aware.get_layer("predictions").output_range.high - aware.get_layer("predictions").output_range.low) / 255
    )
    assert np.abs(outputs - expected).mean() < 1.5 * step
    assert set(file.operators) <= {
        "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "QUANTIZE", "DEQUANTIZE", "DELEGATE",
    }  # fmt: skip


ZOO = {
    "v1": lambda: km.MobileNetV1((64, 64, 3), alpha=0.25, classes=10),
    "v1 depth multiplier": lambda: km.MobileNetV1((64, 64, 3), alpha=0.25, depth_multiplier=2, classes=10),
    "v1 standard shallow": lambda: km.MobileNetV1(
        (64, 64, 3), alpha=0.25, convolution="standard", shallow=True, classes=10
    ),
    "v1 dilated": lambda: km.MobileNetV1((64, 64, 3), alpha=0.25, include_top=False, output_stride=16, pooling="max"),
    "v2": lambda: km.MobileNetV2((64, 64, 3), alpha=0.35, classes=10),
    "v2 dilated": lambda: km.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, output_stride=8),
    "v2 ReLU6 bottleneck": lambda: km.MobileNetV2((64, 64, 3), alpha=0.35, bottleneck_activation="relu6", classes=10),
    "v2 shortcut between expansions": lambda: km.MobileNetV2((64, 64, 3), alpha=0.35, shortcut="expansion", classes=10),
    "v2 no shortcut": lambda: km.MobileNetV2((64, 64, 3), alpha=0.35, shortcut=None, classes=10),
}


@pytest.mark.slow
@pytest.mark.parametrize("row", ZOO)
def test_every_network_quantizes_folds_and_converts(row):
    keras.utils.set_random_seed(0)
    model, x = settle(ZOO[row]()), images(16, 64)
    aware = km.quantize_aware(model, x)
    file = Int8(to_int8(km.fold_batch_norm(aware)))
    expected = aware.predict(x, verbose=0)
    outputs = file.predict(x)[0]
    assert np.abs(outputs - expected).mean() <= 0.1 * np.abs(expected).mean()
    assert set(file.operators) <= {
        "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "RESHAPE", "SOFTMAX", "REDUCE_MAX",
        "QUANTIZE", "DEQUANTIZE", "DELEGATE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
    }  # fmt: skip
