"""Post-training quantization: each step against what it promises, and all of them on real weights and pictures."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_mobilenet as km
from keras_mobilenet.optimization.bias_correction import correct_biases
from keras_mobilenet.optimization.equalization import equalize
from keras_mobilenet.optimization.fake_quant import FixedFakeQuant
from keras_mobilenet.optimization.representative import representative_pictures
from tests.keras_mobilenet.optimization.networks import images, settle, small

SHAPE = (None, 32, 32, 3)


def ranges(model, names, pictures):
    """Largest value in each channel of the named layers."""
    probe = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return {name: np.asarray(y).max(axis=(0, 1, 2)) for name, y in zip(names, probe(pictures), strict=True)}


@pytest.fixture(scope="module")
def folded():
    return km.fold_batch_norm(settle(small()))


def test_equalization_keeps_the_outputs_and_fills_the_ranges(folded):
    model, pictures = km.fold_batch_norm(folded), images(16)
    names = ["block_0_expand_relu", "block_0_depthwise_relu", "block_1_expand_relu"]
    before = ranges(model, names, pictures)
    equalize(model, pictures)
    np.testing.assert_allclose(model(pictures), folded(pictures), atol=1e-5)
    after = ranges(model, names, pictures)
    for name in names:
        alive = before[name] > 0
        assert after[name].max() <= 6 + 1e-5
        np.testing.assert_allclose(after[name].max(), before[name].max(), rtol=1e-4)
        assert after[name][alive].min() > 1.2 * before[name][alive].min()
    whole = after["block_0_expand_relu"][before["block_0_expand_relu"] > 0.1]  # a depthwise convolution reads it
    np.testing.assert_allclose(whole, whole.max(), rtol=1e-3)


def test_equalization_leaves_what_two_layers_read(folded):
    model = km.fold_batch_norm(folded)
    equalize(model, images(8))
    for name in ("block_0_project", "stem"):  # a shortcut reads both
        np.testing.assert_array_equal(model.get_layer(name).bias, folded.get_layer(name).bias)


def test_bias_correction_makes_the_means_equal(folded):
    pictures = images(16)
    wrong = km.fold_batch_norm(folded)
    for layer in wrong.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([np.round(kernel * 8) / 8, bias])
    names = ["stem", "block_0_depthwise", "block_1_project"]
    tensors = [keras.Model(m.input, [m.get_layer(n).output for n in names]) for m in (folded, wrong)]

    def errors():
        want, got = (model(pictures) for model in tensors)
        return [
            float(np.abs(np.mean(np.asarray(b) - np.asarray(a), (0, 1, 2))).max())
            for a, b in zip(want, got, strict=True)
        ]

    assert min(errors()) > 1e-3
    correct_biases(wrong, folded, pictures)
    assert max(errors()) < 1e-4


def test_the_result_is_an_int8_model_close_to_the_float_one():
    model, pictures = settle(small(activation=None)), images(64)
    before = [w.copy() for w in model.get_weights()]
    quantized = km.quantize_post_training(model, pictures)
    assert any(isinstance(layer, FixedFakeQuant) for layer in quantized.layers)
    for kernel in (layer.kernel.numpy() for layer in quantized.layers if isinstance(layer, layers.Conv2D)):
        steps = kernel / (np.abs(kernel).max(axis=(0, 1, 2)) / 127)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    fresh = images(64, seed=9)
    want = model.predict(fresh, verbose=0)
    np.testing.assert_allclose(quantized.predict(fresh, verbose=0), want, atol=0.1 * np.abs(want).max())
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_bias_correction_halves_the_mean_error_on_other_pictures():
    model, pictures, fresh = settle(small(activation=None)), images(64), images(64, seed=9)
    want = model.predict(fresh, verbose=0)
    errors = []
    for correct in (True, False):
        quantized = km.quantize_post_training(model, pictures, bias_correction=correct)
        errors.append(np.abs((quantized.predict(fresh, verbose=0) - want).mean(axis=0)).max())
    assert errors[0] < 0.5 * errors[1], errors


def test_ranges_is_one_of_the_methods_of_calibrate():
    with pytest.raises(ValueError, match="`ranges='mse'` is not one of extremes, average, percentile, squared_error"):
        km.quantize_post_training(small(), images(), ranges="mse")


FLOATS = images(6)
BYTES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        FLOATS,
        (FLOATS, np.arange(6)),
        {"image": FLOATS},
        tf.constant(FLOATS),
        list(FLOATS),
        tf.data.Dataset.from_tensor_slices((FLOATS, np.arange(6))),
        tf.data.Dataset.from_tensor_slices((FLOATS, np.arange(6))).batch(4),
        tf.data.Dataset.from_tensor_slices(FLOATS).batch(4),
        [[FLOATS[:2]], [FLOATS[2:]]],
        lambda: ([picture[None]] for picture in FLOATS),
    ],
    ids=["array", "labels", "dict", "tensor", "pictures", "unbatched", "batched", "no labels", "lists", "function"],
)
def test_pictures_are_taken_as_users_have_them(data):
    np.testing.assert_array_equal(representative_pictures(data, SHAPE), FLOATS)


def test_bytes_are_scaled():
    np.testing.assert_array_equal(representative_pictures(BYTES, SHAPE), km.preprocess_input(BYTES))


def test_an_endless_dataset_ends():
    endless = tf.data.Dataset.from_tensor_slices(FLOATS).repeat().batch(100)
    assert representative_pictures(endless, SHAPE).shape == (512, 32, 32, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "holds no picture"),
        (np.zeros((0, 32, 32, 3), np.float32), "holds no picture"),
        (FLOATS[:, :16], r"shape \(6, 16, 32, 3\), but the model reads \(N, 32, 32, 3\)"),
        (FLOATS[..., :1], r"shape \(6, 32, 32, 1\)"),
        ([FLOATS, FLOATS[:, :16]], r"shape \(6, 16, 32, 3\)"),
        (BYTES.astype("float32"), r"values from 0 to 255, but the model reads \[-1, 1\]"),
        (km.preprocess_input(km.preprocess_input(BYTES)), "scaled to .* twice"),
        (np.full((1, 32, 32, 3), np.nan, np.float32), "not finite"),
        (BYTES.astype("int32"), "dtype int32"),
        (3, "of type int"),
        ("photos/*.jpg", "dtype"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        representative_pictures(data, SHAPE)


def test_pictures_from_0_to_1_give_a_warning():
    with pytest.warns(UserWarning, match="none below zero"):
        representative_pictures(FLOATS / 2 + 0.5, SHAPE)


@pytest.mark.slow
def test_mobilenet_v1_loses_at_most_a_point(shared_data, imagenet_photos):
    """Plain conversion takes 50.5 % to 47.5 %. Ranges and biases come from COCO's photos, not from those measured."""

    def read(encoded):
        pieces = [km.decode_and_resize(encoded[i : i + 50], (224, 224)) for i in range(0, len(encoded), 50)]
        return np.concatenate(pieces).astype(np.uint8)

    encoded, classes = imagenet_photos
    pictures = read(encoded)
    paths = sorted((shared_data / "coco128" / "train" / "images").iterdir())
    photos = read([path.read_bytes() for path in paths])
    weights = shared_data / "weights" / "mobilenet_v1_0.25_224_slim_float.h5"
    model = km.MobileNetV1((224, 224, 3), 0.25, weights=weights)
    content = km.convert_tflite(model, "int8", photos)
    interpreter = Interpreter(model_content=content, num_threads=2)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    best = []
    for picture in pictures:
        interpreter.set_tensor(image["index"], picture[None])
        interpreter.invoke()
        best.append(interpreter.get_tensor(output["index"])[0].argmax())
    assert 100 * np.mean(best == classes) >= 49.5
