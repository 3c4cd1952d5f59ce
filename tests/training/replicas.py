"""A program: trains and predicts on one device and on two, which share each batch, and prints the differences as JSON.

The devices are two logical CPUs. They have to be set up before TensorFlow is used: this needs a process of its own.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_mobilenet as km
from training import losses, network, optimizers
from training.loop import Trainer
from training.recipe import Recipe
from training.tasks.classification import TASK

RECIPE = Recipe(alpha=0.35, image_size=32, weight_decay=1e-3, ema=0.5)


def prepared(kind: str, images: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = TASK.build(RECIPE, "0123456789")
    network.freeze_batch_norm(model)  # as a stage does
    if kind == "prune":
        return km.prune(model, km.PolynomialDecay(0.0, 0.5, 0, 3, frequency=1))
    return km.quantize_aware(model, images, freeze_after=0) if kind == "quantize" else model


def train(kind: str, strategy: tf.distribute.Strategy) -> tuple[list[np.ndarray], np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)
    labels = np.arange(8)
    with strategy.scope():
        model = prepared(kind, images)
        optimizer = optimizers.build(RECIPE, model, learning_rate=0.01, steps=10, steps_per_epoch=5)
    trainer = Trainer(model, optimizer, losses.cross_entropy(10), strategy)
    size = 8 // strategy.num_replicas_in_sync
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(size).repeat()
    if strategy.num_replicas_in_sync > 1:
        data = strategy.distribute_datasets_from_function(lambda context: data)
    for _, batch in zip(range(4), data, strict=False):
        trainer.step(*batch)
    trainer.synchronize()
    with trainer.averaged():
        outputs = np.asarray(trainer.predict(tf.constant(images[:7])))
    return [variable.numpy() for variable in model.trainable_variables], outputs


def statistics_differ(strategy: tf.distribute.Strategy) -> float:
    """Largest difference of two devices' batch norm statistics, which train, after they were brought together."""
    with strategy.scope():
        inputs = keras.Input((4, 4, 3))
        model = keras.Model(inputs, keras.layers.Flatten()(km.BatchNormalization(momentum=0.5)(inputs)))
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    trainer = Trainer(model, optimizer, losses.cross_entropy(48), strategy)
    data = tf.data.Dataset.from_tensor_slices((np.random.default_rng(0).normal(size=(4, 4, 4, 3)), np.arange(4)))
    data = strategy.distribute_datasets_from_function(lambda context: data.batch(2).repeat())
    trainer.step(*next(iter(data)))
    before, after = [], []
    for found in (before, after):
        for variable in model.non_trainable_variables:
            first, second = strategy.experimental_local_results(variable.value)
            found.append(float(np.abs(first.numpy() - second.numpy()).max()))
        trainer.synchronize()
    assert max(before) > 1e-3
    return max(after)


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    shared = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # a second one would take the first one's keys
    found = {}
    for kind in sys.argv[1:]:
        weights, outputs = train(kind, tf.distribute.get_strategy())
        shared_weights, shared_outputs = train(kind, shared)
        found[kind] = {
            "weights": max(float(np.abs(a - b).max()) for a, b in zip(weights, shared_weights, strict=True)),
            "outputs": float(np.abs(outputs - shared_outputs).max() / np.abs(outputs).max()),
        }
    print(json.dumps(found | {"statistics": statistics_differ(shared)}))


if __name__ == "__main__":
    main()
