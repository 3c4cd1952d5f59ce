"""Makes what the benchmark serves: MobileNetV2 1.0 at 224, as float SavedModels and as an int8 file."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from serving.benchmark import orders
from serving.benchmark.answers import OUTPUT, Expected

SIZE = 224
LITE_FILE = "model.tflite"
_SEEDS = (0, 1)  # Of even and odd versions.
_REPRESENTATIVE = 16


@dataclasses.dataclass(frozen=True)
class Models:
    """Where the models are, under one folder.

    Args:
        folder: Everything else is in it.
    """

    folder: Path

    @property
    def served(self) -> Path:
        """Base path with version 1: a SavedModel, and `model.tflite`."""
        return self.folder / "mobilenet_v2"

    def swapped(self, version: int) -> Path:
        """The SavedModel to serve as this version: one of two with different weights, in turn."""
        return self.folder / f"seed_{_SEEDS[version % 2]}" / "1"

    @property
    def picture(self) -> Path:
        """The picture that is asked about, uint8 [1, 224, 224, 3], as .npy."""
        return self.folder / "picture.npy"

    @property
    def expected(self) -> Path:
        """What even and odd versions answer to it; see `answers`."""
        return self.folder / "expected.npy"


def make(folder: Path, lite_file: str) -> Models:
    """Makes the models in a process of its own, as TensorFlow needs much memory for it.

    Args:
        folder: Where to; what an earlier run left there is used again.
        lite_file: An int8 file to serve; '' converts the SavedModel's own network.
    """
    models = Models(folder)
    if not models.expected.exists():
        with orders.Child("serving.benchmark.models", folder=str(folder), lite_file=lite_file):
            pass
    return models


def _write(models: Models, lite_file: str) -> None:
    from keras_mobilenet import quiet

    quiet.import_tensorflow()
    import keras

    import keras_mobilenet as km

    picture = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    np.save(models.picture, picture)
    answers = []
    for seed in _SEEDS:
        keras.utils.set_random_seed(seed)
        network = km.MobileNetV2(weights=None)
        _as_if_trained(network, np.random.default_rng(seed))
        version = km.export_saved_model(network, models.folder / f"seed_{seed}")
        answers.append(_answer(version, picture))
        if seed == _SEEDS[0]:
            shutil.copytree(version, models.served / "1", dirs_exist_ok=True)
            content = Path(lite_file).read_bytes() if lite_file else _int8(network)
            (models.served / "1" / LITE_FILE).write_bytes(content)
    Expected(np.stack(answers)).save(models.expected)


def _as_if_trained(network: Any, random: np.random.Generator) -> None:
    """Gives every bias values, as training does.

    Without them TensorFlow drops the additions of zero, and with them the fused kernels that a trained network runs on;
    and every class would come out alike, so that wrong answers would pass for right ones.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(random.normal(scale=0.5, size=layer.beta.shape))
    bias = network.layers[-1].bias
    bias.assign(random.normal(size=bias.shape))


def _answer(version: Path, picture: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    return loaded.signatures["serving_default"](image=tf.constant(picture))[OUTPUT].numpy()[0]


def _int8(network: Any) -> bytes:
    import keras_mobilenet as km

    pictures = np.random.default_rng(1).integers(0, 256, (_REPRESENTATIVE, SIZE, SIZE, 3), np.uint8)
    return km.convert_tflite(network, "int8", pictures)


def main(settings: dict[str, str]) -> None:
    """Makes the models and says when they are there."""
    answers = orders.answering()
    _write(Models(Path(settings["folder"])), settings["lite_file"])
    orders.carry_out(answers, lambda order: order)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
