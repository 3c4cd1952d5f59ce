import gzip

import keras
import numpy as np
import pytest

from keras_mobilenet.runtime import Predictor
from training import data, evaluation
from training.evaluation import Evaluation
from training.metrics import rank


def test_equal_scores_count_in_the_order_of_the_classes():
    scores = np.array([[0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [0.1, 0.7, 0.9]])
    assert rank(scores, np.array([1, 0, 0])).tolist() == [1, 0, 2]


def test_figures_of_known_answers():
    labels = np.array([0, 1, 2, 2])
    scores = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]])
    said = Evaluation(labels, scores, seconds=2.0)
    assert said.accuracy == 0.5
    assert said.top_5 == 1.0
    assert said.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert said.figures()["images_per_second"] == 2.0
    np.testing.assert_array_equal(said.probabilities(), scores)
    logits = Evaluation(labels, np.log(scores) + 3, seconds=1.0)
    np.testing.assert_allclose(logits.probabilities(), scores, rtol=1e-6)


def mean_model(outputs, path):
    """Scores that tell dark pictures from bright ones; with a background class where `outputs` is 11."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(outputs, name="scores")(x)).save(path)
    return Predictor(path)


def test_a_background_class_is_left_out(tmp_path):
    split = data.load("digits")["test"]
    predictor = mean_model(11, tmp_path / "model.keras")
    config = data.Input((8, 8), 100, evaluation_crop=None)
    said = evaluation.evaluate(predictor, split, config)
    assert said.scores.shape == (split.count, 10)
    assert said.labels.tolist() == [split.read(index)[1] for index in range(split.count)]
    images = next(iter(data.batches(split, config, training=False)))[0]
    whole = predictor.predict(np.asarray(images))["scores"]
    np.testing.assert_allclose(said.scores[:100], whole[:, 1:], atol=1e-5)


def test_a_model_of_other_classes_is_refused(tmp_path):
    split = data.load("digits")["test"]
    with pytest.raises(ValueError, match="and the data set has 10 classes"):
        predictor = mean_model(7, tmp_path / "model.keras")
        evaluation.evaluate(predictor, split, data.Input((8, 8), 100, evaluation_crop=None))


def test_sizes_of_a_file_and_of_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "b").write_bytes(b"xyz")
    assert evaluation.stored_bytes(tmp_path / "a") == {"bytes": 1000, "gzip_bytes": len(gzip.compress(bytes(1000)))}
    assert evaluation.stored_bytes(tmp_path)["bytes"] == 1003
