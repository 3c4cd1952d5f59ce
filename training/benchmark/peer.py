"""The peer's contestants: tf_keras with tensorflow-model-optimization, in a process with TF_USE_LEGACY_KERAS=1."""

from typing import Any

import tensorflow_model_optimization as tfmot
import tf_keras
from absl import app, flags

from training.benchmark import contestant

STEPS_PER_EPOCH = 142
LEARNING_RATE = 0.002

_CONTESTANT = flags.DEFINE_enum("contestant", None, ["peer_float", "peer_prune", "peer_quantize"], "Which one.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pictures in a step.")


def build(kind: str) -> tuple[Any, list[Any]]:
    """A compiled model, and the callbacks that its training needs."""
    model = tf_keras.applications.MobileNetV2(
        (contestant.SIZE, contestant.SIZE, 3),
        alpha=contestant.ALPHA,
        weights=None,
        classes=contestant.CLASSES,
        classifier_activation=None,
    )
    callbacks = []
    if kind == "peer_prune":
        schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, STEPS_PER_EPOCH, frequency=10)
        model = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
        callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
    elif kind == "peer_quantize":
        model = tfmot.quantization.keras.quantize_model(model)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.SGD(LEARNING_RATE, momentum=0.9), loss, metrics=["accuracy"])
    return model, callbacks


def main(argv: list[str]) -> None:
    """Takes part as the contestant of the flag."""
    del argv
    tf_keras.utils.set_random_seed(0)
    model, callbacks = build(_CONTESTANT.value)
    contestant.serve(contestant.Fit(tf_keras, model, _BATCH_SIZE.value, callbacks))


if __name__ == "__main__":
    app.run(main)
