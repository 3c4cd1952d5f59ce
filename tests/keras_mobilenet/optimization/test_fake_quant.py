"""Fake-quantized values against those of tensorflow-model-optimization on the same tensors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mobilenet.optimization import fake_quant, tfmot
from keras_mobilenet.optimization.fake_quant import FakeQuant, FixedFakeQuant
from keras_mobilenet.optimization.fake_quant_layers import FakeQuantConv2D, FakeQuantDepthwiseConv2D, FakeQuantReLU

KERNELS = [(3, 3, 3, 16), (1, 1, 24, 5), (5, 5, 1, 1), (32, 10)]
ACTIVATIONS = [(2, 7, 5, 3), (4, 1, 1, 9), (6, 10)]


def peers_last_value(kernel):
    quantizer = tfmot.load().quantization.keras.quantizers.LastValueQuantizer(8, True, True, True)
    low, high = tf.Variable(tf.fill(kernel.shape[-1:], -6.0)), tf.Variable(tf.fill(kernel.shape[-1:], 6.0))
    return quantizer(tf.constant(kernel), True, {"min_var": low, "max_var": high}).numpy()


class PeersMovingAverage:
    def __init__(self, low, high):
        self.quantizer = tfmot.load().quantization.keras.quantizers.MovingAverageQuantizer(8, False, False, False)
        self.range = {"min_var": tf.Variable(low), "max_var": tf.Variable(high)}

    def __call__(self, x, training):
        return self.quantizer(tf.constant(x), training, self.range).numpy()


def normal(shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")


@pytest.mark.parametrize("shape", KERNELS)
def test_kernels_equal_tfmots(shape):
    kernel = normal(shape) * np.logspace(-3, 1, shape[-1], dtype="float32")
    np.testing.assert_array_equal(fake_quant.fake_quantize_kernel(kernel), peers_last_value(kernel))


@pytest.mark.parametrize("shape", [(3, 3, 8, 1), (3, 3, 4, 2), (5, 3, 1, 3)])
def test_depthwise_kernels_equal_tfmots_per_channel(shape):
    kernel = normal(shape) * np.logspace(-2, 1, shape[2], dtype="float32")[:, None]
    expected = np.empty_like(kernel)
    for channel in range(shape[2]):
        for multiple in range(shape[3]):
            one = kernel[:, :, channel, multiple]
            expected[:, :, channel, multiple] = peers_last_value(one[:, :, None, None])[:, :, 0, 0]
    np.testing.assert_array_equal(fake_quant.fake_quantize_depthwise_kernel(kernel), expected)


def test_a_kernel_lies_on_the_int8_grid_and_zero_stays_zero():
    kernel = normal((3, 3, 16, 8))
    kernel[np.random.default_rng(1).random(kernel.shape) < 0.5] = 0.0
    kernel[..., 3] = 0.0  # a channel that pruning took whole
    rounded = np.asarray(fake_quant.fake_quantize_kernel(kernel))
    steps = np.abs(kernel).max((0, 1, 2)) / 127
    integers = rounded / np.maximum(steps, 1e-9)
    np.testing.assert_allclose(integers, np.round(integers), atol=1e-3)
    assert np.abs(integers).max() == pytest.approx(127, abs=1e-3)
    assert np.all(rounded[kernel == 0] == 0)


def test_kernel_gradients_pass():
    kernel = tf.Variable(normal((3, 3, 4, 6)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(fake_quant.fake_quantize_kernel(kernel) * 3.0)
    np.testing.assert_array_equal(tape.gradient(loss, kernel), np.full(kernel.shape, 3.0))


@pytest.mark.parametrize("shape", ACTIVATIONS)
def test_activations_equal_tfmots_while_training_and_after(shape):
    ours, peer = FakeQuant(), PeersMovingAverage(-6.0, 6.0)
    for step in range(5):
        x = normal(shape, step, scale=4.0)
        np.testing.assert_array_equal(ours(x, training=True), peer(x, True))
    assert float(ours.low) == peer.range["min_var"].numpy() != -6.0
    assert float(ours.high) == peer.range["max_var"].numpy()
    x = normal(shape, 9, scale=4.0)
    np.testing.assert_array_equal(ours(x, training=False), peer(x, False))
    np.testing.assert_array_equal(ours(x), peer(x, False))


@pytest.mark.parametrize("max_value", [6.0, None])
def test_relu_in_one_with_its_quantizer_equals_both_in_a_row(max_value):
    ours, peer = FakeQuantReLU(max_value), PeersMovingAverage(0.0, 6.0)
    for step in range(5):
        x = normal((2, 7, 5, 3), step, scale=1.0 + step)
        relu = np.clip(x, 0.0, max_value)
        np.testing.assert_array_equal(ours(x, training=True), peer(relu, True))
    assert float(ours.output_range.low) == 0.0
    assert float(ours.output_range.high) == peer.range["max_var"].numpy()
    np.testing.assert_array_equal(ours(x, training=False), peer(relu, False))


def test_relu_gradients_equal_those_of_both_in_a_row_inside_the_range():
    layer, x = FakeQuantReLU(6.0), tf.constant(normal((4, 9), scale=5.0))
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    with tf.GradientTape() as peer:
        peer.watch(x)
        high = float(layer.output_range.high)
        peers_loss = tf.reduce_sum(tf.quantization.fake_quant_with_min_max_vars(tf.nn.relu6(x), 0.0, high) ** 2)
    gradient, expected = tape.gradient(loss, x).numpy(), peer.gradient(peers_loss, x).numpy()
    inside = x.numpy() < high
    assert 0 < np.count_nonzero(expected[inside]) < inside.size
    np.testing.assert_array_equal(gradient[inside], expected[inside])


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_layers_equal_tfmots_wrapped_layers(kernel_size):
    """Against the layer that tfmot.quantization.keras.quantize_model puts in the place of tf_keras's Conv2D."""
    tf_keras = pytest.importorskip("tf_keras")
    plain = tf_keras.layers.Conv2D(8, kernel_size, strides=2, input_shape=(16, 16, 3))
    peer = tfmot.load().quantization.keras.quantize_model(tf_keras.Sequential([plain])).layers[-1]
    ours = FakeQuantConv2D(8, kernel_size, strides=2)
    ours.build((None, 16, 16, 3))
    kernel, bias = normal(ours.kernel.shape, 1), normal(ours.bias.shape, 2)
    ours.set_weights([kernel, bias, *ours.get_weights()[2:]])
    for variable in peer.trainable_weights:
        variable.assign(kernel if variable.shape == kernel.shape else bias)
    for step in range(3):
        x = normal((2, 16, 16, 3), step)
        np.testing.assert_allclose(ours(x, training=True), peer(x, training=True), atol=1e-5)
    np.testing.assert_allclose(ours(x, training=False), peer(x, training=False), atol=1e-5)


def test_a_frozen_layer_keeps_its_range():
    layer = FakeQuant(trainable=False)
    layer(normal((2, 3), scale=9.0), training=True)
    assert (float(layer.low), float(layer.high)) == (-6.0, 6.0)


def test_depth_multiplier_convolves_with_the_rounded_kernel():
    layer = FakeQuantDepthwiseConv2D(3, depth_multiplier=2, quantize_output=False, use_bias=False)
    x = normal((2, 8, 8, 4))
    outputs = layer(x)
    plain = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)
    plain.build(x.shape)
    plain.set_weights([fake_quant.fake_quantize_depthwise_kernel(layer.kernel)])
    np.testing.assert_allclose(outputs, plain(x), atol=1e-6)


@pytest.mark.parametrize("limits", [(-1.0, 3.0), (-0.3, 7.1), (0.0, 5.9), (-2.0, 0.0), (0.0, 0.0), (-1e-9, 1e-9)])
def test_nudged_ranges_are_the_ones_the_op_rounds_to(limits):
    low, high = fake_quant.nudge(*limits)
    assert low <= 0.0 <= high and low < high
    zero_point = -low / (high - low) * 255
    assert zero_point == pytest.approx(round(zero_point), abs=1e-3)
    x = np.linspace(1.5 * limits[0] - 1, 1.5 * limits[1] + 1, 999, dtype="float32")
    expected = tf.quantization.fake_quant_with_min_max_vars(x, *limits)
    np.testing.assert_allclose(FixedFakeQuant(low, high)(x), expected, atol=1e-6 * (high - low) + 1e-6)
