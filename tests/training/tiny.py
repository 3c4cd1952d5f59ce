"""A tiny network on made-up pictures, to run the training loop in a second."""

import keras
import tensorflow as tf

from training import losses
from training.checkpoints import Checkpoints
from training.history import History
from training.loop import Trainer

BATCH, CLASSES = 8, 3


class InterruptedTrainingError(Exception):
    """In the place of a signal that ends the process."""


def trainer(*, ema: bool = False, dropout: float = 0.5, strategy=None, optimizer=None, seed: int = 1) -> Trainer:
    """A trainer with a new model, always of the same weights."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        inputs = keras.Input((4, 4, 3))
        x = keras.layers.Conv2D(5, 3, kernel_regularizer=keras.regularizers.L2(0.01))(inputs)
        x = keras.layers.BatchNormalization(momentum=0.8)(x)
        x = keras.layers.Dropout(dropout)(keras.layers.Flatten()(x))
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
        optimizer = optimizer or keras.optimizers.SGD(0.1, momentum=0.9, use_ema=ema, ema_momentum=0.7)
        optimizer.build(model.trainable_variables)
    return Trainer(model, optimizer, losses.cross_entropy(CLASSES), strategy, {"training_accuracy": losses.hits})


def pictures(step: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch of a step."""
    images = tf.random.stateless_uniform([BATCH, 4, 4, 3], (step, 0), -1, 1)
    return images, tf.random.stateless_uniform([BATCH], (step, 1), 0, CLASSES, tf.int64)


def batches(first: int, interrupted_before: int | None = None):
    """All batches from a step on; an exception where the one of `interrupted_before` would come."""
    step = first
    while step != interrupted_before:
        yield pictures(step)
        step += 1
    raise InterruptedTrainingError


def kept(folder, trainer: Trainer) -> dict:
    """Where a run keeps its state."""
    return {
        "checkpoints": Checkpoints(folder / "checkpoints", trainer.model, trainer.optimizer),
        "history": History(folder),
    }
