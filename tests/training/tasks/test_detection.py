import dataclasses

import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet.runtime import Predictor
from training import data
from training.data.detection_sources import load_boxes
from training.recipe import Recipe
from training.tasks.detection import TASK

RECIPE = Recipe(
    task="detection", dataset="shapes", model="mobilenet_v2", alpha=0.1, image_size=64, batch_size=4, cache=True
)


@pytest.fixture(scope="module")
def split():
    source = load_boxes("shapes")
    return data.verify(source["validation"].select(np.arange(8)))[0]


@pytest.fixture(scope="module")
def model():
    return TASK.build(RECIPE, ("circle", "square", "triangle"))


@pytest.fixture(scope="module")
def expected(model, split):
    """Figures of the model as training sees them."""
    config = TASK.input_config(RECIPE)
    evaluate = TASK.validation(RECIPE, split, config, model, None)
    return evaluate(lambda images: model(images, training=False))


@pytest.mark.parametrize("kind", ["keras", "tflite", "saved_model"])
def test_a_stored_model_is_measured_as_in_training(model, split, expected, tmp_path, kind):
    path = tmp_path / "model"
    if kind == "keras":
        path = path.with_suffix(".keras")
        model.save(path)
    elif kind == "tflite":
        path = path.with_suffix(".tflite")
        km.convert_tflite(model, path=path, **TASK.conversion)
    else:
        km.export_saved_model(model, path, split.class_names)
    said = TASK.measure(Predictor(path), split, TASK.input_config(RECIPE))
    assert said.figures()["ap50"] == pytest.approx(expected["ap50"], abs=0.01)
    assert said.figures()["pictures"] == 8
    assert len(said.details()["ap_by_class"]) == 3
    assert said.summary(split.class_names).startswith(f"AP {said.precision.ap:.2%}")


def test_a_detector_of_other_classes_is_refused(split, tmp_path):
    TASK.build(RECIPE, ("circle", "square")).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="a detector of other classes than the 3 of the data set"):
        TASK.measure(Predictor(tmp_path / "model.keras"), split, TASK.input_config(RECIPE))


def test_a_classifier_is_refused(split, tmp_path):
    km.MobileNetV2((64, 64, 3), 0.1, classes=3).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="it is no detector"):
        TASK.measure(Predictor(tmp_path / "model.keras"), split, TASK.input_config(RECIPE))


def test_the_loss_is_that_of_each_picture(model, split):
    config = TASK.input_config(RECIPE)
    images, labels = next(iter(TASK.batches(split, config, training=True)))
    losses = TASK.loss(RECIPE, split.class_names, model)(images, labels, model(images, training=True))
    assert losses.shape == (4,)
    assert np.isfinite(losses).all()


def test_ssd_and_softmax_are_fields_of_the_recipe():
    recipe = dataclasses.replace(RECIPE, ssd_heads="standard", scores="softmax")
    model = TASK.build(recipe, ("circle", "square", "triangle"))
    assert model.outputs[1].shape[-1] == 4
    assert TASK.architecture(recipe) == "ssd_mobilenet_v2"
    assert "head_0_boxes_depthwise" not in {layer.name for layer in model.layers}
