import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet.layers import SamePadding2D

TOLERANCE = {"float32": 2e-5, "mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}  # a step of the outputs' dtype


def images(shape=(4, 5, 6, 7), seed=0):
    return np.random.default_rng(seed).normal(0.5, 2, shape).astype("float32")


def pair(shape=(None, 5, 6, 7), **options):
    """Our layer and Keras's with the same random weights."""
    ours, theirs = km.BatchNormalization(**options), keras.layers.BatchNormalization(**options)
    chance = np.random.default_rng(1)
    for layer in (ours, theirs):
        layer.build(shape)
    ours.set_weights([chance.uniform(0.5, 1.5, weight.shape) for weight in ours.weights])
    theirs.set_weights(ours.get_weights())
    return ours, theirs


def train(layer, x, steps=1):
    """Outputs, and gradients of a loss by input, gamma and beta."""
    for _ in range(steps):
        x = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(
                tf.cast(outputs, tf.float32) * np.cos(np.arange(7)) ** 2 + tf.cast(outputs, tf.float32) ** 3
            )
        gradients = tape.gradient(loss, [x, *(variable.value for variable in layer.trainable_weights)])
    return outputs, gradients


def assert_close(ours, theirs, tolerance):
    ours, theirs = (np.asarray(tf.cast(value, tf.float32)) for value in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}, {"center": False, "scale": False}])
def test_batch_norm_trains_as_keras(policy, options):
    ours, theirs = pair(dtype=policy, momentum=0.7, epsilon=1e-3, **options)
    assert ours._takes_fused(tf.cast(images(), ours.compute_dtype), None)
    (our_outputs, our_gradients), (their_outputs, their_gradients) = (
        train(layer, images(), 3) for layer in (ours, theirs)
    )
    assert our_outputs.dtype == their_outputs.dtype == ours.compute_dtype
    tolerance = TOLERANCE[policy]
    assert_close(our_outputs, their_outputs, tolerance)
    assert len(our_gradients) == len(their_gradients) == 1 + len(ours.trainable_weights)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        assert_close(one, other, 5 * tolerance)
    for one, other in zip(ours.non_trainable_weights, theirs.non_trainable_weights, strict=True):
        assert one.name == other.name and one.dtype == "float32"
        assert_close(one, other, tolerance)


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_infers_as_keras_to_the_last_bit(policy, frozen):
    ours, theirs = pair(dtype=policy)
    before = ours.get_weights()
    ours.trainable = theirs.trainable = not frozen
    np.testing.assert_array_equal(ours(images(), training=frozen), theirs(images(), training=frozen))
    for one, other in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(ours.trainable_weights) == (0 if frozen else 2)


@pytest.mark.parametrize("size", [(2, 1, 1, 7), (1, 1, 1, 7)])
def test_moving_statistics_of_few_pixels(size):
    ours, theirs = pair(shape=size)
    x = images(size)
    assert_close(ours(x, training=True), theirs(x, training=True), 1e-4)
    for one, other in zip(ours.non_trainable_weights, theirs.non_trainable_weights, strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 7), {}),
        ((8, 5, 7), {}),
        ((4, 7, 5, 6), {"axis": 1}),
        ((2, 3, 4, 5, 7), {}),
        ((4, 5, 6, 7), {"dtype": "float16"}),
        ((4, 5, 6, 7), {"dtype": "float64"}),
        ((4, 5, 6, 7), {"renorm": True}),
    ],
)
def test_what_the_fused_op_does_not_take_goes_through_keras(shape, options):
    ours, theirs = pair(shape=shape, **options)
    x = tf.cast(images(shape), ours.compute_dtype)
    assert not ours._takes_fused(x, None)
    for training in (True, False):
        np.testing.assert_array_equal(ours(x, training=training), theirs(x, training=training))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mask_goes_through_keras():
    ours, theirs = pair()
    mask = np.random.default_rng(2).random((4, 5, 6)) > 0.5
    np.testing.assert_array_equal(ours(images(), training=True, mask=mask), theirs(images(), training=True, mask=mask))


def test_batch_norm_inside_a_graph_of_unknown_sizes():
    ours, theirs = pair()
    spec = tf.TensorSpec((None, None, None, 7), tf.float32)
    outputs = [
        tf.function(lambda x, layer=layer: layer(x, training=True), input_signature=[spec])(images())
        for layer in (ours, theirs)
    ]
    assert_close(*outputs, 2e-5)
    for one, other in zip(ours.non_trainable_weights, theirs.non_trainable_weights, strict=True):
        assert_close(one, other, 1e-5)


@pytest.mark.parametrize("file", ["weights.weights.h5", "model.h5", "model.keras"])
@pytest.mark.parametrize("ours_writes", [True, False])
def test_files_are_interchangeable(file, ours_writes, tmp_path):
    def build(layer):
        image = keras.Input((6, 6, 3))
        x = keras.layers.Conv2D(4, 3, name="conv")(image)
        x = layer(name="first_bn")(x)
        return keras.Model(image, layer(name="second_bn")(keras.layers.ReLU()(x)))

    kinds = (km.BatchNormalization, keras.layers.BatchNormalization)
    writer, reader = (build(kind) for kind in (kinds if ours_writes else kinds[::-1]))
    chance = np.random.default_rng(3)
    writer.set_weights([chance.uniform(0.5, 1.5, weight.shape) for weight in writer.weights])
    if file.endswith(".weights.h5"):
        writer.save_weights(tmp_path / file)
    else:
        writer.save(tmp_path / file)
    if not (file == "model.h5" or file.endswith(".weights.h5")):
        loaded = keras.models.load_model(tmp_path / file)
        assert type(loaded.get_layer("first_bn")) is kinds[not ours_writes]
        np.testing.assert_array_equal(loaded(images((2, 6, 6, 3))), writer(images((2, 6, 6, 3))))
    reader.load_weights(tmp_path / file)
    for one, other in zip(writer.get_weights(), reader.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batch_norm_config_round_trip():
    layer = km.BatchNormalization(momentum=0.7, epsilon=2e-3, center=False, name="bn")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is km.BatchNormalization and copy.get_config() == layer.get_config()


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5])
def test_same_padding_makes_valid_equal_same(kernel_size, strides):
    layer = SamePadding2D(kernel_size, strides)
    dynamic = tf.function(layer, input_signature=[tf.TensorSpec((None,) * 4, tf.float32)])
    kernel = images((kernel_size, kernel_size, 2, 3), seed=5)
    for height, width in [(size, 21 - size) for size in range(1, 21)]:
        x = images((2, height, width, 2), seed=height)
        padded = layer(x)
        assert padded.shape == layer.compute_output_shape(x.shape)
        np.testing.assert_array_equal(padded, dynamic(x))
        valid = tf.nn.conv2d(padded, kernel, strides, "VALID")
        np.testing.assert_allclose(valid, tf.nn.conv2d(x, kernel, strides, "SAME"), atol=1e-4)


def test_same_padding_of_unknown_sizes_in_a_model():
    image = keras.Input((None, 9, 2), dtype="float16")
    padded = SamePadding2D(name="pad")(image)
    assert padded.shape == (None, None, 11, 2)
    model = keras.Model(image, padded)
    restored = keras.Model.from_config(model.get_config())
    assert restored(np.zeros((1, 8, 9, 2), "float16")).shape == (1, 9, 11, 2)
    assert restored.get_layer("pad").get_config() == model.get_layer("pad").get_config()
