"""The networks by name, and models from files."""

from collections.abc import Callable
from pathlib import Path

import keras

import keras_mobilenet as km

BUILDERS = {"mobilenet_v1": km.MobileNetV1, "mobilenet_v2": km.MobileNetV2}


def freeze_batch_norm(model: keras.Model) -> None:
    """Lets every batch norm keep its statistics, scale and offset."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def in_float32(model: keras.Model, build: Callable[[], keras.Model]) -> keras.Model:
    """A network that was trained under a mixed policy, as the later stages and exports take it.

    Args:
        model: The network.
        build: Builds the same one again.
    """
    keras.config.set_dtype_policy("float32")
    result = build()
    result.set_weights(model.get_weights())
    return result


def load(path: str | Path) -> keras.Model:
    """Loads a Keras file, whatever layers of this package stand in it, to go on with it: not compiled."""
    return keras.models.load_model(path, compile=False)
