import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mobilenet as km
from keras_mobilenet.optimization.fake_quant import FakeQuant, FixedFakeQuant
from keras_mobilenet.optimization.fake_quant_layers import FakeQuantLayer
from tests.keras_mobilenet.optimization.networks import images, settle, small

LOSS = "sparse_categorical_crossentropy"


def rounds(model):
    """The names of the layers that fake-quantize what they put out."""
    return {
        layer.name
        for layer in model.layers
        if isinstance(layer, FakeQuant | FixedFakeQuant) or getattr(layer, "output_range", None) is not None
    }


def train(model, steps, **options):
    x, y = images(8), np.arange(8) % 5
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), LOSS, **options)
    return model.fit(x, y, batch_size=8, epochs=steps, shuffle=False, verbose=0)


def test_quantizers_stand_where_the_int8_file_has_tensors():
    aware = km.quantize_aware(small())
    assert rounds(aware) == {
        "image_quant",
        "stem_relu",
        "block_0_expand_relu",
        "block_0_depthwise_relu",
        "block_0_project_BN",
        "block_0_add",
        "block_1_expand_relu",
        "block_1_depthwise_relu",
        "block_1_project_BN",
        "pool",
        "predictions",
    }


def test_names_and_weights_are_the_float_models():
    model = settle(small())
    aware = km.quantize_aware(model)
    assert [layer.name for layer in aware.layers if layer.name != "image_quant"] == [x.name for x in model.layers]
    assert ([x.name for x in aware.inputs], aware.output_names) == ([x.name for x in model.inputs], model.output_names)
    assert aware.name == model.name
    for layer in model.layers:
        weights = layer.get_weights()
        for ours, theirs in zip(aware.get_layer(layer.name).get_weights(), weights, strict=False):
            np.testing.assert_array_equal(ours, theirs)
        assert all(weight.path.startswith(layer.name) for weight in aware.get_layer(layer.name).weights)
    kernel = model.get_layer("stem").get_weights()[0]
    aware.get_layer("stem").set_weights([kernel * 0])
    np.testing.assert_array_equal(model.get_layer("stem").get_weights()[0], kernel)


def test_a_calibrated_model_computes_nearly_what_the_float_model_does():
    model, x = settle(small(activation=None)), images(32)
    expected = model.predict(x, verbose=0)
    loose = np.abs(km.quantize_aware(model).predict(x, verbose=0) - expected).mean()
    calibrated = np.abs(km.quantize_aware(model, x).predict(x, verbose=0) - expected).mean()
    assert calibrated < 0.05 * np.abs(expected).mean()
    assert calibrated < loose


def test_one_layer_equals_its_rounding_by_hand():
    """The model of one convolution against NumPy's rounding of input, kernel and output."""
    inputs = keras.Input((6, 6, 3), name="image")
    model = keras.Model(inputs, layers.Conv2D(4, 1, name="conv")(inputs))
    x = np.random.default_rng(0).uniform(-2, 2, (2, 6, 6, 3)).astype("float32")
    aware = km.quantize_aware(model)
    kernel, bias = model.get_layer("conv").get_weights()
    step = np.abs(kernel).max((0, 1, 2)) / 127
    rounded = np.round(kernel / step) * step
    outputs = np.clip(np.round(x * 255 / 12), -128, 127) * 12 / 255 @ rounded[0, 0] + bias
    np.testing.assert_allclose(aware(x), np.clip(np.round(outputs * 255 / 12), -128, 127) * 12 / 255, atol=1e-5)


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_training_moves_weights_and_ranges(steps_per_execution):
    aware = km.quantize_aware(settle(small()), images(32))
    before = {weight.path: weight.numpy() for weight in aware.weights}
    history = train(aware, 12, steps_per_execution=steps_per_execution)
    assert history.history["loss"][-1] < history.history["loss"][0]
    moved = {weight.path for weight in aware.weights if not np.array_equal(weight.numpy(), before[weight.path])}
    assert {weight.path for weight in aware.trainable_weights} <= moved
    assert {"image_quant/low", "block_0_add/output_range/low", "block_0_add/output_range/high"} <= moved
    assert "block_0_expand_relu/output_range/low" not in moved  # what comes out of ReLU begins at 0


def test_softmax_is_trained_through_unrounded():
    """A probability rounded to 0 would have no logarithm: the classifier's softmax stays float in training."""
    aware = km.quantize_aware(small())
    probabilities = aware(images(2), training=True).numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-6)
    assert np.any(np.abs(probabilities * 256 - np.round(probabilities * 256)) > 1e-3)


def test_freeze_after_stops_ranges_and_statistics_inside_a_run():
    aware = km.quantize_aware(settle(small()), images(32), freeze_after=3)
    paths = ("low", "high", "moving_mean", "moving_variance")

    def still():
        return {weight.path: weight.numpy() for weight in aware.weights if weight.path.endswith(paths)}

    train(aware, 2, steps_per_execution=2)
    after_two = still()
    aware.fit(images(8), np.arange(8) % 5, batch_size=8, verbose=0)
    after_three = still()
    assert any(not np.array_equal(after_two[path], after_three[path]) for path in after_two)
    kernel = aware.get_layer("stem").get_weights()[0]
    aware.fit(images(16, seed=1), np.arange(16) % 5, batch_size=8, epochs=2, verbose=0)
    assert np.any(aware.get_layer("stem").get_weights()[0] != kernel)
    for path, value in still().items():
        np.testing.assert_array_equal(value, after_three[path], err_msg=path)


def test_frozen_batch_norm_trains_on_what_inference_computes():
    aware = km.quantize_aware(settle(small(activation=None)), images(32), freeze_after=0)
    aware.get_layer("dropout").rate = 0.0
    x = images(8, seed=3)
    np.testing.assert_allclose(aware(x, training=True), aware(x, training=False), atol=1e-5)


@pytest.mark.parametrize("freeze_after", [None, 4])
def test_an_interrupted_run_goes_on_as_if_it_had_not_stopped(tmp_path, freeze_after):
    keras.utils.set_random_seed(0)
    model = settle(small())
    model.get_layer("dropout").rate = 0.0
    model = keras.models.clone_model(model)
    whole = km.quantize_aware(model, images(32), freeze_after=freeze_after)
    whole.save(tmp_path / "start.keras")
    train(whole, 6)

    first = keras.models.load_model(tmp_path / "start.keras")
    train(first, 2)
    first.save(tmp_path / "first.keras")
    second = keras.models.load_model(tmp_path / "first.keras")
    second.fit(images(8), np.arange(8) % 5, batch_size=8, epochs=4, shuffle=False, verbose=0)
    for ours, theirs in zip(second.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=theirs.path)


def test_saves_loads_and_clones(tmp_path):
    aware = km.quantize_aware(settle(small()), images(32), freeze_after=10)
    expected = aware.predict(images(), verbose=0)
    aware.save(tmp_path / "aware.keras")
    aware.save_weights(tmp_path / "aware.weights.h5")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "aware.keras", safe_mode=True).predict(images(), verbose=0), expected
    )
    clone = keras.models.clone_model(aware)
    assert np.any(clone.predict(images(), verbose=0) != expected)
    clone.load_weights(tmp_path / "aware.weights.h5")
    np.testing.assert_array_equal(clone.predict(images(), verbose=0), expected)
    assert [weight.path for weight in clone.weights] == [weight.path for weight in aware.weights]


def test_trains_with_averaged_weights():
    aware = km.quantize_aware(settle(small()), images(32))
    aware.compile(keras.optimizers.AdamW(1e-3, use_ema=True, ema_overwrite_frequency=2), LOSS)
    losses = aware.fit(images(8), np.arange(8) % 5, batch_size=4, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@keras.saving.register_keras_serializable(package="tests")
class HalfZeros(keras.constraints.Constraint):
    """Keeps the first half of the output channels at zero."""

    def __init__(self, share=0.5):
        self.share = share

    def __call__(self, kernel):
        zeros = int(kernel.shape[-1] * self.share)
        return kernel * tf.cast(tf.range(kernel.shape[-1]) >= zeros, kernel.dtype)

    def get_config(self):
        return {"share": self.share}


def test_sparsity_and_its_constraint_survive():
    model = settle(small(constraint=HalfZeros(0.5)))
    kernel = model.get_layer("stem").get_weights()[0]
    model.get_layer("stem").set_weights([np.asarray(HalfZeros(0.5)(kernel))])
    aware = km.quantize_aware(model, images(32))
    assert isinstance(aware.get_layer("stem").kernel_constraint, HalfZeros)
    train(aware, 4)
    kernel = aware.get_layer("stem").get_weights()[0]
    assert np.all(kernel[..., :4] == 0) and np.all(kernel[..., 4:] != 0)
    assert np.all(np.asarray(aware.get_layer("stem").fake_quantized_kernel())[..., :4] == 0)
    assert np.all(km.fold_batch_norm(aware).get_layer("stem").get_weights()[0][..., :4] == 0)


def test_a_pruned_model_keeps_its_zeros_into_the_inference_model(tmp_path):
    def zeros(model):
        kernels = [layer.get_weights()[0] for layer in model.layers if hasattr(layer, "kernel")]
        return [kernel == 0 for kernel in kernels if np.mean(kernel == 0) > 0.4]

    model = km.prune(settle(small()), km.ConstantSparsity(0.5, 0, frequency=1))
    train(model, 2)
    assert len(zeros(model)) == 6  # all but the depthwise kernels
    aware = km.quantize_aware(model, images(16))
    train(aware, 3)
    aware.save(tmp_path / "aware.keras")
    folded = km.fold_batch_norm(keras.models.load_model(tmp_path / "aware.keras"))
    for trained, inference, pruned in zip(zeros(aware), zeros(folded), zeros(model), strict=True):
        np.testing.assert_array_equal(trained, pruned)
        assert np.all(inference[pruned])  # rounding to the grid may add zeros
    np.testing.assert_allclose(folded.predict(images(), verbose=0), aware.predict(images(), verbose=0), atol=0.02)


def test_relu_as_an_argument_and_as_a_layer_are_one_thing():
    inputs = keras.Input((8, 8, 3))
    fused = keras.Model(inputs, layers.Conv2D(4, 3, activation="relu6", name="conv")(inputs))
    apart = keras.Model(inputs, layers.Activation("relu6")(layers.Conv2D(4, 3, name="conv")(inputs)))
    apart.set_weights(fused.get_weights())
    x = images(4, 8) * 8
    first, second = km.quantize_aware(fused, x), km.quantize_aware(apart, x)
    for training in (False, True):
        np.testing.assert_array_equal(first(x, training=training), second(x, training=training))


def test_preprocessing_in_front_stays_float():
    image = keras.Input((40, 40, 3), dtype="uint8", name="image")
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)], name="augmentation")
    x = layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(augmentation(layers.Resizing(32, 32)(image)))
    model = keras.Model(image, small()(x))
    pictures = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), "uint8")
    aware = km.quantize_aware(model, pictures)
    assert "rescaling_quant" in rounds(aware) and "image_quant" not in rounds(aware)
    assert float(aware.get_layer("rescaling_quant").high) <= 1.0
    aware.compile("sgd", LOSS)
    aware.fit(pictures, np.arange(8) % 5, verbose=0)


def heads():
    """Several outputs of different kinds over one network, as a detector and a segmenter have them."""
    image = keras.Input((32, 32, 3), name="image")
    features = km.BatchNormalization()(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(image))
    features = layers.ReLU(6.0)(features)
    atrous = layers.Conv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(features)
    pooled = layers.Conv2D(8, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(features))
    pooled = layers.UpSampling2D(16, interpolation="bilinear")(pooled)
    joined = layers.Concatenate()([atrous, pooled])
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="gate")(joined)
    gated = layers.Multiply(name="gated")([joined, gate])
    masks = layers.Resizing(64, 64, interpolation="bilinear")(layers.Conv2D(3, 1, name="masks")(gated))
    small_map = layers.AveragePooling2D(2)(layers.MaxPooling2D()(features))
    scores = [
        layers.Reshape((-1, 4))(layers.Conv2D(8, 3, padding="same", name=f"scores_{number}")(x))
        for number, x in enumerate([features, small_map])
    ]
    scores = layers.Activation("sigmoid", name="scores")(layers.Concatenate(axis=1)(scores))
    boxes = layers.Reshape((-1, 4), name="boxes")(layers.Conv2D(8, 1)(small_map))
    return keras.Model(image, {"masks": masks, "scores": scores, "boxes": boxes})


def test_heads():
    model = settle(heads())
    aware = km.quantize_aware(model, images(16))
    assert {"gate", "gate_quant", "gated", "masks", "scores_0", "scores_1"} <= rounds(aware)
    assert "scores_quant" not in rounds(aware)
    expected, outputs = model.predict(images(4), verbose=0), aware.predict(images(4), verbose=0)
    assert outputs.keys() == expected.keys()
    for name in expected:
        assert np.abs(outputs[name] - expected[name]).mean() < 0.1 * np.abs(expected[name]).mean(), name


def model_of(*tail, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    x = inputs
    for layer in tail:
        x = layer(x)
    return keras.Model(inputs, x, name="model")


REFUSED = {
    "LeakyReLU": (lambda: model_of(layers.LeakyReLU(name="odd")), "`odd` (LeakyReLU).*ReLU"),
    "SeparableConv2D": (
        lambda: model_of(layers.SeparableConv2D(4, 3, name="odd")),
        "`odd`.*DepthwiseConv2D and Conv2D",
    ),
    "Lambda": (lambda: model_of(layers.Lambda(lambda x: x, name="odd")), "`odd`.*model's outputs"),
    "operation": (lambda: model_of(layers.Conv2D(3, 1), lambda x: x + 1.0), "`add.*` \\(Add\\).*keras.layers.Add"),
    "activation": (lambda: model_of(layers.Conv2D(4, 3, activation="gelu", name="odd")), "`odd`.*gelu.*relu6"),
    "ReLU(3)": (lambda: model_of(layers.ReLU(3.0, name="odd")), "`odd`.*max_value=3.*ReLU"),
    "batch norm in front": (
        lambda: model_of(layers.BatchNormalization(name="odd")),
        "`odd`.*right behind a convolution",
    ),
    "batch norm behind ReLU": (
        lambda: model_of(layers.Conv2D(4, 3), layers.ReLU(), layers.BatchNormalization(name="odd")),
        "`odd`.*right behind a convolution",
    ),
    "nested": (lambda: model_of(keras.Sequential([keras.Input((8, 8, 3)), layers.PReLU(name="odd")])), "`odd` .PReLU"),
    "bicubic": (
        lambda: model_of(layers.Conv2D(2, 1), layers.UpSampling2D(interpolation="bicubic", name="odd")),
        "bicubic",
    ),
    "float16": (
        lambda: model_of(layers.Conv2D(4, 3, name="odd", dtype="mixed_float16")),
        "`odd`.*mixed_float16.*float32",
    ),
    "twice": (lambda: km.quantize_aware(model_of(layers.Conv2D(4, 3))), "quantized already"),
    "folded": (lambda: km.fold_batch_norm(km.quantize_aware(model_of(layers.Conv2D(4, 3)))), "quantized already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_it_cant_quantize_and_says_what_to_do(case):
    build, message = REFUSED[case]
    with pytest.raises(
        ValueError, match=message.replace("(", "\\(").replace(")", "\\)") if "\\" not in message else message
    ):
        km.quantize_aware(build())


def test_refuses_subclassed_models():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="no graph of layers"):
        km.quantize_aware(Subclassed())


@pytest.mark.parametrize("freeze_after", [-1, 1.5, "10"])
def test_refuses_what_is_no_count_of_steps(freeze_after):
    with pytest.raises(ValueError, match="freeze_after"):
        km.quantize_aware(small(), freeze_after=freeze_after)


def test_every_layer_class_keeps_its_float_configuration():
    for layer in km.quantize_aware(heads()).layers:
        if isinstance(layer, FakeQuantLayer):
            again = layer.float_class.from_config(layer.float_config())
            assert type(again) is layer.float_class and again.name == layer.name
