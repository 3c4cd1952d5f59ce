"""Exports read back by TensorFlow itself and by TF Serving's own messages."""

import json
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import preprocessing

SIZE = (48, 64)
LABELS = [f"class {number}" for number in range(7)]


def classifier(**kwargs) -> keras.Model:
    model = km.MobileNetV2((*SIZE, 3), 0.35, classes=len(LABELS), **kwargs)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # batch norm that does something, and probabilities that differ
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 5, bias])
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return classifier()


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return km.export_saved_model(
        model, tmp_path_factory.mktemp("savedmodels") / "net", LABELS, card={"accuracy": {"top_1": 0.5}}
    )


@pytest.fixture(scope="module")
def signatures(version):
    loaded = tf.saved_model.load(str(version))
    yield loaded.signatures
    del loaded


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)


def test_probabilities_are_the_models(model, signatures, pictures):
    want = model.predict(preprocessing.preprocess_input(pictures), verbose=0)
    assert want.std() > 0.01  # else anything would agree
    got = signatures["serving_default"](image=tf.constant(pictures))
    assert {name: value.dtype for name, value in got.items()} == {
        "probabilities": tf.float32,
        "class_ids": tf.int32,
        "scores": tf.float32,
    }
    np.testing.assert_allclose(want, got["probabilities"], atol=1e-5)
    np.testing.assert_array_equal(np.argsort(-want, axis=1)[:, :5], got["class_ids"])
    np.testing.assert_allclose(-np.sort(-want, axis=1)[:, :5], got["scores"], atol=1e-5)


def test_logits_are_served_as_probabilities(tmp_path, pictures):
    logits = classifier(classifier_activation=None)
    served = tf.saved_model.load(str(km.export_saved_model(logits, tmp_path))).signatures["serving_default"]
    want = tf.nn.softmax(logits(preprocessing.preprocess_input(pictures)))
    np.testing.assert_allclose(want, served(image=tf.constant(pictures))["probabilities"], atol=1e-5)


@pytest.mark.parametrize("encode", [tf.io.encode_png, lambda p: tf.io.encode_jpeg(p, quality=100)])
def test_encoded_pictures_are_decoded_and_resized_in_the_graph(model, signatures, encode):
    photo = np.random.default_rng(2).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    contents = encode(photo)
    got = signatures["encoded_image"](image_bytes=tf.stack([contents, contents]))["probabilities"]
    resized = preprocessing.resize(preprocessing.decode_image(contents), SIZE)
    want = model(preprocessing.preprocess_input(resized)[None])
    np.testing.assert_allclose(np.repeat(want, 2, 0), got, atol=1e-5)


def test_classify_answers_with_names(signatures, pictures):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[tf.io.encode_png(pictures[0]).numpy()]))
    example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature})).SerializeToString()
    got = signatures["classify"](inputs=tf.constant([example]))
    best = signatures["serving_default"](image=tf.constant(pictures[:1]))
    assert [name.decode() for name in got["classes"][0].numpy()] == [LABELS[i] for i in best["class_ids"][0]]
    np.testing.assert_allclose(got["scores"], best["scores"], atol=1e-6)


def test_a_bad_picture_is_an_invalid_argument(signatures):
    for contents in (b"", b"no picture", tf.io.encode_png(np.zeros((9, 9, 3), np.uint8)).numpy()[:40]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            signatures["encoded_image"](image_bytes=tf.constant([contents]))


def test_the_version_holds_what_tf_serving_reads(version):
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import prediction_log_pb2

    graph = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0]
    assert graph.signature_def["classify"].method_name == "tensorflow/serving/classify"
    assert list(graph.signature_def["classify"].inputs) == ["inputs"]
    assert not [node.name for f in graph.graph_def.library.function for node in f.node_def if "VarHandle" in node.op]
    assert (version / "assets" / "labels.txt").read_text().splitlines() == LABELS
    records = tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log", "predict_log", "classify_log"]
    assert all(getattr(log, log.WhichOneof("log_type")).request.model_spec.name == "net" for log in logs)


def test_the_card_says_what_the_model_is(version, model):
    card = json.loads((version / "model_card.json").read_text())
    assert (card["architecture"], card["alpha"], card["image_size"]) == ("mobilenet_v2", 0.35, list(SIZE))
    assert card["parameters"] == sum(w.numpy().size for w in model.trainable_weights)
    assert card["accuracy"] == {"top_1": 0.5}
    assert card["versions"]["keras"] == keras.__version__


def test_versions_count_up_and_none_is_touched(model, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mine").write_text("kept")
    (tmp_path / "00000003").mkdir()
    assert km.export_saved_model(model, tmp_path).name == "8"
    assert km.export_saved_model(model, tmp_path).name == "9"
    assert (tmp_path / "7" / "mine").read_text() == "kept"


@pytest.mark.slow
def test_exports_at_the_same_time_get_versions_of_their_own(model, tmp_path):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(km.export_saved_model(model, tmp_path))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in results) == ["1", "2", "3"]
    assert all((path / "saved_model.pb").stat().st_size for path in results)


def test_a_failed_export_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("keras_mobilenet.export.warmup.write", full)
    with pytest.raises(OSError, match="No space"):
        km.export_saved_model(model, tmp_path / "net")
    assert not list((tmp_path / "net").iterdir())


def test_features_are_exported_without_classes(tmp_path, pictures):
    backbone = km.MobileNetV1((*SIZE, 3), 0.25, include_top=False, pooling="avg")
    signatures = tf.saved_model.load(str(km.export_saved_model(backbone, tmp_path))).signatures
    assert set(signatures) == {"serving_default", "encoded_image"}
    got = signatures["serving_default"](image=tf.constant(pictures))["features"]
    np.testing.assert_allclose(backbone(preprocessing.preprocess_input(pictures)), got, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "arguments", "message"),
    [
        ({}, {"labels": ["one"]}, "1 labels don't fit the 7 classes"),
        ({"input_shape": (None, None, 3)}, {}, r"pass `image_size=\(height, width\)`"),
        ({"input_shape": (None, None, 3)}, {"image_size": (0, 5)}, "`image_size=\\(0, 5\\)`"),
        ({}, {"image_size": (32, 32)}, "leave it out"),
        ({"input_shape": (48, 48, 1)}, {}, r"\(N, height, width, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(kwargs, arguments, message, tmp_path):
    model = km.MobileNetV2(**({"input_shape": (*SIZE, 3), "alpha": 0.35, "classes": 7} | kwargs))
    with pytest.raises(ValueError, match=message):
        km.export_saved_model(model, tmp_path / "net", **arguments)
    assert not (tmp_path / "net").exists()
