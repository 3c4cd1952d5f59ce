"""A segmenter pruned, quantized, converted, exported and read back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import tflite_file

pytestmark = pytest.mark.slow

SIZE = (65, 97)
LABELS = ["background", "bird", "cat", "dog"]


@pytest.fixture(scope="module")
def pictures():
    """Coloured tiles, so that neighbouring pixels belong together."""
    tiles = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), np.uint8)
    return tiles.repeat(16, 1).repeat(16, 2)[:, : SIZE[0], : SIZE[1]]


@pytest.fixture(scope="module")
def model(pictures):
    keras.utils.set_random_seed(0)
    model = km.DeepLabV3("mobilenet_v2", 0.1, SIZE, classes=len(LABELS))
    for layer in model.layers:
        # The mean of four pictures hardly differs: normalized, it would be rounding errors.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name != "image_pooling_bn":
            layer.momentum = 0.0
    model(km.preprocess_input(pictures), training=True)
    return model


def class_map(model, pictures):
    return np.argmax(model(km.preprocess_input(pictures)), -1)


def agreement(one, other):
    return (one == other).mean()


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("savedmodels") / "segmenter"
    return km.export_saved_model(model, folder, LABELS, tflite="float32")


def test_signatures_answer_with_a_class_map(model, pictures, version):
    signatures = tf.saved_model.load(str(version)).signatures
    assert sorted(signatures) == ["encoded_image", "serving_default"]
    got = signatures["serving_default"](image=tf.constant(pictures))
    assert (got["class_map"].dtype, got["class_map"].shape) == (tf.uint8, (4, *SIZE))
    want = class_map(model, pictures)
    assert len(np.unique(want)) > 1 and agreement(want, got["class_map"].numpy()) > 0.999
    assert (got["probabilities"].dtype, got["probabilities"].shape) == (tf.float32, (4, 5, 7, len(LABELS)))
    np.testing.assert_allclose(tf.reduce_sum(got["probabilities"], -1), np.ones((4, 5, 7)), atol=1e-5)
    np.testing.assert_array_equal(np.argmax(got["probabilities"], -1), got["class_map"].numpy()[:, ::16, ::16])
    assert got["class_names"].numpy().astype(str).tolist() == [LABELS] * 4
    contents = tf.stack([tf.io.encode_png(picture) for picture in pictures])
    encoded = signatures["encoded_image"](image_bytes=contents)
    assert agreement(encoded["class_map"].numpy(), got["class_map"].numpy()) > 0.999


def test_the_version_has_labels_and_a_file_that_agrees(model, pictures, version):
    assert (version / "assets" / "labels.txt").read_text().split() == LABELS
    predictor = km.Predictor(version / "model.tflite")
    assert [(spec.name, spec.dtype, spec.shape[1:]) for spec in predictor.outputs.values()] == [
        ("class_map", "int32", SIZE)
    ]
    found = predictor.predict(km.preprocess_input(pictures[:1]))["class_map"]
    assert agreement(found, class_map(model, pictures[:1])) > 0.99
    with pytest.raises(ValueError, match="3 labels don't fit the 4 classes"):
        km.export_saved_model(model, version.parent, LABELS[:3])


def test_a_file_of_another_size_is_refused(model, version, tmp_path):
    other = km.DeepLabV3("mobilenet_v2", 0.1, (65, 65), classes=len(LABELS))
    with pytest.raises(ValueError, match="convert the same model"):
        km.export_saved_model(other, tmp_path, tflite=version / "model.tflite")


def test_quantization_aware_and_int8_agree(model, pictures, tmp_path):
    aware = km.quantize_aware(model, km.preprocess_input(pictures))
    folded = km.fold_batch_norm(aware)
    scores = np.sort(aware(km.preprocess_input(pictures)).numpy(), -1)
    clear = scores[..., -1] - scores[..., -2] > 0.05 * np.ptp(scores)  # by more than rounding may turn round
    assert clear.mean() > 0.2
    expected = class_map(aware, pictures)[clear]
    assert agreement(class_map(folded, pictures)[clear], expected) > 0.99
    content = km.convert_tflite(aware, "int8", labels=LABELS, path=tmp_path / "model.tflite")
    predictor = km.Predictor(tmp_path / "model.tflite")
    found = np.concatenate([predictor.predict(picture[None])["class_map"] for picture in pictures])
    # The file reads a picture half a step darker, which a network of random weights makes much of: 0.87 was seen.
    assert agreement(found[clear], expected) > 0.8
    report = km.edge_tpu.check(content)
    # At 513 pixels the pooled branch is enlarged 33 times and left too, and with it all that waits for it.
    left = ("RESIZE_BILINEAR", "ARG_MAX")
    assert report.cpu_operators == left
    kinds = {operator.name for operator in tflite_file.read(content).main.operators}
    assert not kinds & {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "CAST", "DEQUANTIZE"}


def test_prunes_and_trains_quantized(model, pictures):
    pruned = km.prune(model, km.ConstantSparsity(0.5, 0))
    pruned.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(True, ignore_class=255))
    masks = class_map(model, pictures)
    masks[:, :4] = 255
    pruned.fit(km.preprocess_input(pictures), masks, batch_size=2, epochs=2, verbose=0)
    zeros = np.mean(
        [np.mean(np.asarray(pruned.get_layer(name).kernel) == 0) for name in ("aspp0", "concat_projection")]
    )
    assert zeros == pytest.approx(0.5, abs=0.01)
    aware = km.quantize_aware(pruned, km.preprocess_input(pictures))
    aware.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(True, ignore_class=255))
    history = aware.fit(km.preprocess_input(pictures), masks, batch_size=2, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
