import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import segmentation
from keras_mobilenet.runtime import Predictor
from training import data
from training.cluster import join
from training.data.mask_sources import load_masks
from training.recipe import Recipe
from training.tasks.segmentation import TASK, pixel_cross_entropy

RECIPE = Recipe(
    task="segmentation", dataset="shapes", model="mobilenet_v1", alpha=0.1, image_size=65, batch_size=4, cache=True
)


@pytest.fixture(scope="module")
def split():
    source = load_masks("shapes")
    return data.verify(source["validation"].select(np.arange(8)))[0]


@pytest.fixture(scope="module")
def model(split):
    keras.utils.set_random_seed(0)
    model = TASK.build(RECIPE, split.class_names)
    for layer in model.layers:  # else all pixels are of one class
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name != "image_pooling_bn":
            layer.momentum = 0.0
    model(next(iter(TASK.batches(split, TASK.input_config(RECIPE), training=False)))[0], training=True)
    return model


@pytest.fixture(scope="module")
def expected(model, split):
    """Figures of the model as training sees them."""
    evaluate = TASK.validation(RECIPE, split, TASK.input_config(RECIPE), model, join("one"))
    return evaluate(lambda images: model(images, training=False))


@pytest.mark.slow
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
    assert said.figures()["mean_iou"] == pytest.approx(expected["mean_iou"], abs=0.01)
    assert said.figures()["pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], abs=0.01)
    assert said.figures()["pictures"] == 8 and said.class_maps.shape == (8, 65, 65)
    assert len(said.details()["iou_by_class"]) == 4
    assert said.summary(split.class_names).startswith(f"mean IoU {said.figures()['mean_iou']:.2%}")
    said.keep(tmp_path / "said.npz")
    assert TASK.agreement(tmp_path / "said.npz", tmp_path / "said.npz") == {"agreement": 1.0}
    titles = [title for title, _ in TASK.sections("float", np.load(tmp_path / "said.npz"), split, 2)]
    assert titles == ["IoU by class (float)", "Pictures (float; left the right classes, right those found)"]


@pytest.mark.slow
def test_scales_and_flips_are_for_keras_models(model, split, tmp_path):
    import dataclasses

    config = dataclasses.replace(TASK.input_config(RECIPE), evaluation_scales=(0.75, 1.0), evaluation_flip=True)
    model.save(tmp_path / "model.keras")
    said = TASK.measure(Predictor(tmp_path / "model.keras"), split, config)
    probabilities = segmentation.multi_scale(model, (0.75, 1.0))
    images, _ = next(iter(TASK.batches(split, config, training=False)))
    np.testing.assert_array_equal(said.class_maps[:4], np.argmax(probabilities(images), -1))
    km.convert_tflite(model, path=tmp_path / "model.tflite")
    with pytest.raises(ValueError, match=r"are for a \.keras file"):
        TASK.measure(Predictor(tmp_path / "model.tflite"), split, config)


@pytest.mark.slow
def test_other_models_are_refused(model, split, tmp_path):
    few = data.verify(load_masks("shapes")["validation"].select(np.arange(1)))[0]
    km.MobileNetV1((65, 65, 3), 0.1, classes=4).save(tmp_path / "classifier.keras")
    with pytest.raises(ValueError, match="it is no segmenter"):
        TASK.measure(Predictor(tmp_path / "classifier.keras"), few, TASK.input_config(RECIPE))


def test_the_loss_is_that_of_keras_over_pixels_that_count():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 5, (3, 4, 6)), rng.normal(size=(3, 4, 6, 5)).astype("float32")
    labels[rng.uniform(size=labels.shape) < 0.3] = segmentation.VOID
    labels[2] = segmentation.VOID
    found = pixel_cross_entropy(labels.astype("int32"), logits).numpy()
    peer = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for index in (0, 1):
        counted = labels[index] != segmentation.VOID
        assert found[index] == pytest.approx(float(peer(labels[index][counted], logits[index][counted])), rel=1e-5)
    assert found[2] == 0


def test_the_learning_rate_falls_as_deeplabs():
    import dataclasses

    from training import optimizers

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    recipe = dataclasses.replace(RECIPE, schedule="poly")
    options = {"learning_rate": 0.1, "steps": 200, "steps_per_epoch": 10}
    optimizer = optimizers.build(recipe, model, **options)
    for step in (0, 50, 199):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(0.1 * (1 - step / 200) ** 0.9, rel=1e-5)
    with pytest.raises(ValueError, match="no warm-up"):
        optimizers.build(recipe, model, **options, warmup_epochs=1.0)
