import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mobilenet as km
from tests.keras_mobilenet.optimization.networks import images, settle, small


@pytest.fixture(scope="module")
def model():
    return settle(small(activation=None))


def ranges(aware):
    return {weight.path: float(weight) for weight in aware.weights if weight.path.endswith(("low", "high"))}


def extremes(model, layer, x):
    outputs = keras.Model(model.input, model.get_layer(layer).output).predict(x, verbose=0)
    return outputs.min(), outputs.max()


def test_ranges_are_those_of_the_float_activations(model):
    x = images(40)
    aware = km.calibrate(km.quantize_aware(model), x, method="extremes", batch_size=16)
    for layer, name in [("image", "image_quant"), ("block_0_add", "block_0_add/output_range")]:
        found = ranges(aware)[f"{name}/low"], ranges(aware)[f"{name}/high"]
        assert found == pytest.approx(extremes(model, layer, x), rel=1e-5)
    found = ranges(aware)["stem_relu/output_range/low"], ranges(aware)["stem_relu/output_range/high"]
    assert found == pytest.approx((0.0, extremes(model, "stem_relu", x)[1]), rel=1e-5)


def test_average_is_the_mean_of_the_batches_extremes(model):
    x = images(32)
    aware = km.calibrate(km.quantize_aware(model), x, method="average", batch_size=8)
    expected = np.mean([extremes(model, "block_0_add", x[start : start + 8]) for start in range(0, 32, 8)], axis=0)
    name = "block_0_add/output_range"
    assert [ranges(aware)[f"{name}/low"], ranges(aware)[f"{name}/high"]] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("method", ["percentile", "squared_error"])
def test_cut_ranges_lie_inside_the_extremes_and_are_no_worse(model, method):
    x = images(32)
    widest, cut = km.quantize_aware(model), km.quantize_aware(model)
    km.calibrate(widest, x, method="extremes")
    km.calibrate(cut, x, method=method)
    for path, value in ranges(cut).items():
        assert abs(value) <= abs(ranges(widest)[path]) + 1e-6
    assert ranges(cut) != ranges(widest)


def test_data_in_every_form_gives_the_same_ranges(model):
    x, y = images(24), np.zeros(24)
    aware = km.quantize_aware(model)
    forms = {
        "array": x,
        "arrays": (x, y),
        "tensor": tf.constant(x),
        "dataset": tf.data.Dataset.from_tensor_slices(x).batch(8),
        "labelled": tf.data.Dataset.from_tensor_slices((x, y)).batch(8),
        "weighted": tf.data.Dataset.from_tensor_slices((x, y, y)).batch(8),
        "list": [x[:8], x[8:16], x[16:]],
        "generator": ((x[start : start + 8], y) for start in range(0, 24, 8)),
        "named": {"image": x},
        "endless": tf.data.Dataset.from_tensor_slices(x).batch(8).repeat(),
    }
    found = {}
    for form, data in forms.items():
        km.calibrate(aware, data, batch_size=8, steps=3 if form == "endless" else None)
        found[form] = ranges(aware)
    for form in forms:
        assert found[form] == pytest.approx(found["array"], rel=1e-5), form


def test_steps_bound_the_batches(model):
    aware, x = km.quantize_aware(model), images(16)
    first = ranges(km.calibrate(aware, x[:8]))
    assert ranges(km.calibrate(aware, x, batch_size=8)) != first
    assert ranges(km.calibrate(aware, x, batch_size=8, steps=1)) == first


def test_weights_stay(model):
    aware = km.quantize_aware(model)
    before = [weight.numpy() for weight in aware.trainable_weights]
    assert km.calibrate(aware, images(8)) is aware
    for weight, value in zip(aware.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_an_activation_that_is_always_zero_folds_and_computes():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(4, 3, activation="relu", kernel_initializer="zeros", name="dead")
    aware = km.quantize_aware(keras.Model(inputs, layers.Conv2D(2, 3)(conv(inputs))), images(4, 8))
    assert ranges(aware)["dead/output_range/high"] == 0.0
    outputs = aware.predict(images(4, 8), verbose=0)
    np.testing.assert_allclose(km.fold_batch_norm(aware).predict(images(4, 8), verbose=0), outputs, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 32, 32, 3), "float32"), "no batch"),
        ([], "no batch"),
        (tf.data.Dataset.from_tensors(np.zeros((2, 32, 32, 3), "float32")).repeat(), "without end.*steps"),
        (np.full((2, 32, 32, 3), np.nan, "float32"), "not finite"),
    ],
)
def test_refuses_data_that_gives_no_range(model, data, message):
    aware = km.quantize_aware(model)
    before = ranges(aware)
    with pytest.raises(ValueError, match=message):
        km.calibrate(aware, data)
    assert ranges(aware) == before


def test_refuses_a_float_model_and_an_unknown_method(model):
    with pytest.raises(ValueError, match=r"km\.quantize_aware"):
        km.calibrate(model, images(2))
    with pytest.raises(ValueError, match=r"'median'.*extremes, average"):
        km.calibrate(km.quantize_aware(model), images(2), method="median")
