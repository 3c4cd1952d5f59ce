"""One contract for every model of the zoo; a new model is a new row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

import keras_mobilenet as km

# A small second network: the variants are tested on fewer blocks, the networks themselves on all.
SMALL = (km.Stage(1, 16, 1, 1), km.Stage(6, 24, 2, 2), km.Stage(6, 32, 2, 2), km.Stage(6, 64, 2, 2))


@dataclass(frozen=True)
class Row:
    """A model of the zoo, the pictures it is called on, and the shape of its answer."""

    build: Callable[..., keras.Model]
    output: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[int, ...] = (2, 32, 32, 3)

    def model(self) -> keras.Model:
        """A new model, with weights of its own."""
        return self.build(**{"input_shape": self.pictures[1:], "alpha": 0.1} | self.options)

    def inputs(self, seed: int = 0) -> np.ndarray:
        """Pictures in [-1, 1]."""
        return np.random.default_rng(seed).uniform(-1, 1, self.pictures).astype("float32")


V1, V2 = km.MobileNetV1, km.MobileNetV2
QUICK = {
    "v1": Row(V1, (2, 5), {"classes": 5, "shallow": True}),
    "v2": Row(V2, (2, 5), {"classes": 5, "stages": SMALL}),
}
SLOW = {
    "v1 0.25, 128": Row(V1, (2, 1000), {"alpha": 0.25}, (2, 128, 128, 3)),
    "v1 2.0": Row(V1, (2, 7), {"alpha": 2.0, "classes": 7, "shallow": True}),
    "v1 not square": Row(V1, (2, 5), {"classes": 5, "shallow": True}, (2, 33, 50, 3)),
    "v1 any size": Row(V1, (2, 5), {"classes": 5, "input_shape": (None, None, 3)}, (2, 37, 64, 3)),
    "v1 features": Row(V1, (2, 3, 2, 102), {"include_top": False, "shallow": True}, (2, 65, 64, 3)),
    "v1 grey, pooled": Row(V1, (2, 102), {"include_top": False, "pooling": "max", "shallow": True}, (2, 32, 32, 1)),
    "v1 stride 16": Row(V1, (2, 4, 4, 102), {"include_top": False, "output_stride": 16}, (2, 64, 64, 3)),
    "v1 stride 8": Row(V1, (2, 5), {"classes": 5, "output_stride": 8, "shallow": True}, (2, 47, 32, 3)),
    "v1 standard": Row(V1, (2, 4, 4, 102), {"include_top": False, "convolution": "standard", "output_stride": 8}),
    "v1 multiplier, logits": Row(
        V1,
        (2, 5),
        {"classes": 5, "depth_multiplier": 3, "dropout": 0.5, "classifier_activation": None, "shallow": True},
    ),
    "v2 0.35, 96": Row(V2, (2, 1000), {"alpha": 0.35}, (2, 96, 96, 3)),
    "v2 2.0": Row(V2, (2, 7), {"alpha": 2.0, "classes": 7, "stages": SMALL}),
    "v2 any size": Row(V2, (2, 5), {"classes": 5, "stages": SMALL, "input_shape": (None, None, 3)}, (2, 37, 64, 3)),
    "v2 features": Row(V2, (2, 5, 4, 1280), {"include_top": False, "stages": SMALL}, (2, 65, 64, 3)),
    "v2 stride 16": Row(V2, (2, 4, 4, 1280), {"include_top": False, "output_stride": 16}, (2, 64, 64, 3)),
    "v2 relu6, stride 8": Row(
        V2,
        (2, 5),
        {"classes": 5, "bottleneck_activation": "relu6", "output_stride": 8, "stages": SMALL},
        (2, 47, 32, 3),
    ),
    "v2 expansion shortcut": Row(V2, (2, 5), {"classes": 5, "shortcut": "expansion", "stages": SMALL}),
    "v2 no shortcut, pooled": Row(
        V2, (2, 1280), {"include_top": False, "pooling": "avg", "shortcut": None, "stages": SMALL}
    ),
}
ROWS = [pytest.param(row, id=name) for name, row in QUICK.items()]
ROWS += [pytest.param(row, id=name, marks=pytest.mark.slow) for name, row in SLOW.items()]


def assert_same(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # threads may sum in another order


@pytest.fixture(scope="class")
def model(row):
    """A model whose batch norm has seen pictures, so that its outputs say something of every weight."""
    keras.utils.set_random_seed(0)
    model = row.model()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(row.inputs(seed=9), training=True)
    return model


@pytest.fixture(scope="class")
def answer(row, model):
    return model(row.inputs()).numpy()


@pytest.mark.parametrize("row", ROWS, scope="class")
class TestContract:
    def test_answers(self, row, model, answer):
        assert answer.shape == row.output and answer.dtype == "float32" and np.isfinite(answer).all()
        assert all(known in (None, side) for known, side in zip(model.output_shape, row.output, strict=True))
        if row.options.get("include_top", True) and row.options.get("classifier_activation", "softmax"):
            np.testing.assert_allclose(answer.sum(-1), 1, atol=1e-5)
        assert np.abs(answer[0] - answer[1]).max() > 1e-6

    @pytest.mark.parametrize("name", ["model.keras", "model.h5"])
    def test_saves_and_loads(self, row, model, answer, name, tmp_path):
        model.save(tmp_path / name)
        loaded = keras.models.load_model(tmp_path / name, safe_mode=True)
        assert type(loaded.layers[2]) is km.BatchNormalization
        assert_same(loaded(row.inputs()), answer)

    def test_weights_save_and_load(self, row, model, answer, tmp_path):
        model.save(tmp_path / "model.h5")
        model.save_weights(tmp_path / "model.weights.h5")
        other = row.model()
        initial = other.get_weights()
        assert np.abs(other(row.inputs()) - answer).max() > 1e-6
        for name in ("model.h5", "model.weights.h5"):
            other.set_weights(initial)
            other.load_weights(tmp_path / name)
            assert_same(other(row.inputs()), answer)

    def test_clones(self, row, model, answer):
        clone = keras.models.clone_model(model)
        for one, other in zip(clone.layers[1:], model.layers[1:], strict=True):
            assert type(one) is type(other) and one.get_config() == other.get_config()
        clone.set_weights(model.get_weights())
        assert_same(clone(row.inputs()), answer)

    def test_takes_a_mixed_precision_policy(self, row):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = row.model()
        finally:
            keras.config.set_dtype_policy("float32")
        assert {weight.dtype for weight in model.weights} == {"float32"}
        answer = model(row.inputs(), training=True)
        assert answer.dtype == "float16" and np.isfinite(answer).all()

    def test_trains(self, row):
        """A step changes every trainable weight and every moving statistic, and leaves all of them finite."""
        keras.utils.set_random_seed(0)
        model = row.model()
        before = [weight.numpy() for weight in model.weights]
        targets = np.random.default_rng(1).uniform(size=row.output).astype("float32")
        model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
        history = model.fit(row.inputs() * 2, targets, epochs=2, batch_size=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        for weight, old in zip(model.weights, before, strict=True):
            assert np.isfinite(weight.numpy()).all(), weight.path
            if "seed_generator" not in weight.path:
                assert (weight.numpy() != old).any(), weight.path

    def test_costs_what_its_weights_say(self, row, model):
        cost = km.cost.count(model, row.pictures[1:])
        assert cost.parameters == sum(weight.numpy().size for weight in model.trainable_weights)
        assert cost.multiply_adds > 0 and cost.activation_bytes > 0


@pytest.mark.parametrize("row", QUICK.values(), ids=QUICK)
def test_fit_learns_in_a_graph(row):
    """Two colours: a network that trains at all tells them apart."""
    keras.utils.set_random_seed(0)
    model = row.build((32, 32, 3), 0.25, **row.options | {"classes": 2}, batch_norm_momentum=0.5)
    labels = np.arange(64) % 2
    pictures = np.random.default_rng(0).uniform(-1, 0, (64, 32, 32, 3)).astype("float32")
    pictures[labels == 1, ..., 0] += 1
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pictures, labels, epochs=6, batch_size=16, verbose=0)
    assert model.evaluate(pictures, labels, verbose=0)[1] > 0.9
