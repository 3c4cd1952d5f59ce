"""Copies and rewrites of functional models."""

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet import graph

SHAPE = (64, 64, 3)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")


def nested() -> keras.Model:
    """As in Keras's guide to transfer learning: a backbone called as a layer, in inference mode."""
    image = keras.Input(SHAPE)
    x = km.MobileNetV2(SHAPE, 0.35, include_top=False)(image, training=False)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.layers.Dense(5)(x))


def sequential() -> keras.Model:
    backbone = km.MobileNetV1(SHAPE, 0.25, include_top=False, pooling="avg")
    return keras.Sequential([keras.Input(SHAPE), backbone, keras.layers.Dense(5)])


def twins() -> keras.Model:
    """Two nested models with the same layer names."""
    image = keras.Input(SHAPE)
    one, other = (km.MobileNetV1(SHAPE, 0.25, include_top=False, pooling="avg", name=name) for name in ("a", "b"))
    return keras.Model(image, keras.layers.Concatenate()([one(image), other(image)]))


def shared_layer() -> keras.Model:
    image = keras.Input(SHAPE)
    conv = keras.layers.Conv2D(4, 3, padding="same", name="shared")
    y = conv(conv(keras.layers.Conv2D(4, 1)(image)))
    return keras.Model(image, [y, keras.layers.GlobalMaxPooling2D()(y)])


@pytest.mark.parametrize("build", [nested, sequential, twins, shared_layer])
def test_copy_is_flat_equal_and_apart(build, pictures):
    model = build()
    before = [np.copy(w) for w in model.get_weights()]
    copied = graph.copy(model)
    assert not any(isinstance(layer, keras.Model) for layer in copied.layers)
    for want, got in zip(keras.tree.flatten(model(pictures)), keras.tree.flatten(copied(pictures)), strict=True):
        np.testing.assert_allclose(want, got, atol=1e-6)
    copied.set_weights([w + 1 for w in copied.get_weights()])
    for want, got in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(want, got)
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers if layer.name != "shared")


def test_consumers_name_every_reader():
    readers = graph.consumers(km.MobileNetV2((32, 32, 3), 0.35))
    names = {name: [layer and layer.name for layer in of] for name, of in readers.items()}
    assert names["block_1_project_BN"] == ["block_2_expand", "block_2_add"]
    assert names["predictions"] == [None]


def test_a_model_without_a_graph_is_refused_by_name():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"`mine` \(Subclassed\).*keras.Input"):
        graph.copy(Subclassed(name="mine"))
