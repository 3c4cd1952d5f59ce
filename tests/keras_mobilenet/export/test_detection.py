"""A detector on all the ways: pruned, quantized, folded, converted, exported; LiteRT's own operator is the peer."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import detection, tflite_file
from keras_mobilenet.runtime import Predictor

SIZE = 64
LABELS = ["circle", "square", "triangle"]


def pictures(count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def detector(scores="sigmoid", **options):
    """Untrained, but with outputs that differ from anchor to anchor by about 1."""
    model = km.SSDLite(alpha=0.1, image_size=SIZE, classes=3, scores=scores, **options)
    heads = [layer for layer in model.layers if layer.name.startswith("head_") and getattr(layer, "use_bias", False)]
    values = keras.Model(model.input, [layer.output for layer in heads])(km.preprocess_input(pictures(8)))
    generator = np.random.default_rng(1)
    for layer, value in zip(heads, values, strict=True):
        kernel, bias = layer.get_weights()
        bias = generator.normal(size=bias.shape).astype(np.float32)
        layer.set_weights([kernel / max(float(np.std(value)), 1e-3), bias])
    return model


@pytest.fixture(scope="module")
def model():
    return detector()


@pytest.fixture(scope="module")
def aware(model):
    return km.quantize_aware(model, pictures(16))


def by_score(found, row=0):
    """(class, score, box) of each detection, rounded enough to be compared."""
    count = int(found["num_detections"][row])
    rows = zip(found["classes"][row], found["scores"][row], found["boxes"][row], strict=True)
    return [(int(c), float(s), np.clip(b, 0, 1)) for c, s, b in list(rows)[:count]]


def compare(one, other, least):
    """Holds two lists of detections against each other.

    Those with equal scores may change places, and of those with the last one's score either may have kept others.
    """
    assert len(one) == len(other) > least
    for (_, score, _), (_, other_score, _) in zip(one, other, strict=True):
        assert score == pytest.approx(other_score, abs=1e-4)
    for number, score, box in one:
        same = [np.abs(box - b).max() < 1e-3 for n, s, b in other if n == number and abs(score - s) < 1e-4]
        assert any(same) or score < one[-1][1] + 1e-4, (number, score, box)


@pytest.mark.parametrize("scores", ["sigmoid", pytest.param("softmax", marks=pytest.mark.slow)])
def test_litert_s_operator_finds_what_we_find(scores, tmp_path):
    model = detector(scores)
    suppression = km.NonMaxSuppression(score_threshold=0.3, iou_threshold=0.5, max_detections=40)
    path = tmp_path / "model.tflite"
    km.convert_tflite(model, non_max_suppression=suppression, labels=LABELS, path=path)
    predictor = Predictor(path)
    assert list(predictor.outputs) == ["boxes", "classes", "scores", "num_detections"]
    images = km.preprocess_input(pictures(1))
    compare(by_score(predictor.predict(images)), by_score(km.detect(model, images, suppression)), least=10)


@pytest.mark.slow
def test_an_int8_file_finds_nearly_what_the_trained_grid_finds(aware, tmp_path):
    suppression = km.NonMaxSuppression(score_threshold=0.3, max_detections=20)
    path = tmp_path / "model.tflite"
    km.convert_tflite(aware, "int8", non_max_suppression=suppression, path=path)
    image = pictures(1)
    found = by_score(Predictor(path).predict(image))
    expected = by_score(km.detect(km.fold_batch_norm(aware), km.preprocess_input(image), suppression))
    assert len(found) == len(expected) == 20
    scores = [[score for _, score, _ in rows] for rows in (found, expected)]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.03)  # the grid of scores has steps of 1/256


@pytest.mark.slow
def test_an_edge_tpu_keeps_everything_before_the_last_step(aware):
    content = km.convert_tflite(aware, "int8", non_max_suppression=km.NonMaxSuppression())
    report = km.edge_tpu.check(content)
    # Both inputs of the last step are made float for it, which is part of it.
    assert report.cpu_operators == ("DEQUANTIZE", "DEQUANTIZE", "TFLite_Detection_PostProcess")
    assert report.operators[-1].name == "TFLite_Detection_PostProcess"
    assert km.edge_tpu.check(km.convert_tflite(aware, "int8")).cpu_operators == ()


def test_without_suppression_a_file_puts_out_what_the_model_does(model, tmp_path):
    km.convert_tflite(model, path=tmp_path / "model.tflite")
    images = km.preprocess_input(pictures(2))
    found = Predictor(tmp_path / "model.tflite").predict(images)
    for name, expected in zip(("box_encodings", "class_logits"), model(images, training=False), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=1e-4)


@pytest.mark.slow
def test_pruned_quantized_and_folded_models_stay_detectors(model, aware):
    pruned = km.prune(model, km.ConstantSparsity(0.5, 0))
    for changed in (pruned, aware, km.fold_batch_norm(aware), km.quantize_aware(pruned)):
        assert detection.head_of(changed) == detection.head_of(model)
    images = km.preprocess_input(pictures(2))
    for one, other in zip(model(images, training=False), km.fold_batch_norm(model)(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.slow
def test_post_training_quantization(model):
    content = km.convert_tflite(model, "int8", pictures(16))
    outputs = tflite_file.read(content).main.outputs
    assert len(outputs) == 2


@pytest.fixture(scope="module")
def version(aware, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "shapes"
    return km.export_saved_model(aware, folder, LABELS, tflite="int8")


@pytest.mark.slow
def test_a_saved_model_finds_what_the_model_finds(aware, version):
    loaded = tf.saved_model.load(str(version))
    images = pictures(3)
    found = {name: value.numpy() for name, value in loaded.signatures["serving_default"](image=images).items()}
    assert found["boxes"].shape == (3, 100, 4)
    expected = km.detect(km.fold_batch_norm(aware), km.preprocess_input(images))
    for row in range(3):
        compare(by_score(found, row), by_score(expected, row), least=10)
    names = [[name.decode() for name in row] for row in found["class_names"]]
    count = int(found["num_detections"][0])
    assert names[0][:count] == [LABELS[int(number)] for number in found["classes"][0][:count]]
    assert set(names[0][count:]) <= {""}


@pytest.mark.slow
def test_encoded_pictures_are_found_the_same_in(version):
    loaded = tf.saved_model.load(str(version))
    images = pictures(2)
    encoded = [tf.io.encode_png(image) for image in images]
    assert set(loaded.signatures) == {"serving_default", "encoded_image"}
    one = loaded.signatures["serving_default"](image=images)
    other = loaded.signatures["encoded_image"](image_bytes=tf.stack(encoded))
    np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)


@pytest.mark.slow
def test_the_tflite_file_of_a_version_has_its_outputs(version):
    predictor = Predictor(version / "model.tflite")
    assert list(predictor.outputs) == ["boxes", "classes", "scores", "num_detections"]
    card = json.loads((version / "model_card.json").read_text())
    assert card["classes"] == 3


@pytest.mark.slow
def test_a_file_without_suppression_is_not_exported(model, tmp_path):
    with pytest.raises(ValueError, match="a detector with non_max_suppression"):
        km.export_saved_model(model, tmp_path / "x", tflite=km.convert_tflite(model))


def test_a_classifier_has_nothing_to_suppress():
    model = km.MobileNetV2((32, 32, 3), 0.1, classes=2)
    with pytest.raises(ValueError, match="is no detector: leave it out"):
        km.convert_tflite(model, non_max_suppression=km.NonMaxSuppression())


def test_labels_have_to_be_as_many_as_the_classes(model, tmp_path):
    with pytest.raises(ValueError, match="2 labels don't fit the 3 classes"):
        km.export_saved_model(model, tmp_path / "x", ["a", "b"])
