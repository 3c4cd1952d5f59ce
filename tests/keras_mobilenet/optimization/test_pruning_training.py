"""Pruning while a model is trained: pruned weights stay zero, whatever drives the steps, and training resumes."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from training.checkpoints import Checkpoints
from training.history import History
from training.loop import Plan, Trainer

PICTURES = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")
LABELS = np.arange(48) % 4


def network(policy="float32"):
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, use_bias=False, dtype=policy, name="stem")(inputs)
    x = km.BatchNormalization(dtype=policy, name="stem_bn")(x)
    x = keras.layers.ReLU(6.0, dtype=policy, name="stem_relu")(x)
    x = keras.layers.DepthwiseConv2D(3, dtype=policy, name="depthwise")(x)
    x = keras.layers.Conv2D(12, 1, dtype=policy, name="pointwise")(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=policy, name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(4, dtype="float32", name="logits")(x), name="network")


def pruned_network(policy="float32", end=8, **options):
    keras.utils.set_random_seed(0)
    return km.prune(network(policy), km.PolynomialDecay(0.0, 0.75, 0, end, frequency=2), **options)


def compiled(model, optimizer=None, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, **options)
    return model


def fit(model, epochs=1, **options):
    model.fit(PICTURES, LABELS, batch_size=4, epochs=epochs, shuffle=False, verbose=0, **options)  # 12 steps an epoch
    return model


def kernels(model):
    return [np.asarray(model.get_layer(name).kernel) for name in ("stem", "pointwise", "logits")]


def shares(model):
    return {row.layer: row.sparsity for row in km.sparsity(model).layers if row.layer != "depthwise"}


class NeverComesBack(keras.callbacks.Callback):
    """Looks after every batch: each zero is still one, and the mask is what is zero."""

    def __init__(self):
        super().__init__()
        self.zeros, self.history = None, []

    def on_train_batch_end(self, batch, logs=None):
        now = [kernel == 0 for kernel in kernels(self.model)]
        for old, new in zip(self.zeros or now, now, strict=True):
            assert new[old].all()
        for zeros, name in zip(now, ("stem", "pointwise", "logits"), strict=True):
            np.testing.assert_array_equal(zeros, ~np.asarray(self.model.get_layer(name).kernel_constraint.mask))
        self.zeros = now
        self.history.append(km.sparsity(self.model).sparsity)


DONE = {"stem": 0.75, "pointwise": 0.75, "logits": 0.75}


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=3),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3),
    ],
)
def test_pruned_weights_never_come_back(optimizer):
    watch = NeverComesBack()
    model = fit(compiled(pruned_network(), optimizer()), callbacks=[watch])
    assert shares(model) == DONE
    # Masks change where tfmot's do: before steps 2, 4, 6 and 8.
    changes = [i + 2 for i, (a, b) in enumerate(zip([0.0, *watch.history], watch.history, strict=False)) if b > a]
    assert changes == [2, 4, 6, 8]


def test_steps_within_one_execution_are_the_same_steps():
    one, several = fit(compiled(pruned_network())), fit(compiled(pruned_network(), steps_per_execution=4))
    assert shares(several) == DONE
    for a, b in zip(kernels(one), kernels(several), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_array_equal(a == 0, b == 0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"block_size": (2, 2)}, {"sparsity_m_by_n": (2, 4)}])
def test_steps_compile_with_xla_as_keras_does_on_gpus(options):
    model = fit(compiled(pruned_network(**options), jit_compile=True))
    assert shares(model) == shares(fit(compiled(pruned_network(**options))))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**8)
    model = fit(compiled(pruned_network(policy), optimizer), callbacks=[NeverComesBack()])
    assert shares(model) == DONE
    assert model.get_layer("stem").kernel.dtype == "float32"


@pytest.mark.parametrize("scaled", [False, True])
def test_the_moving_average_that_fit_ends_with_is_pruned(scaled):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.8)
    model = pruned_network("mixed_float16" if scaled else "float32")
    weights = []
    last = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.extend(kernels(model)))
    fit(compiled(model, keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer), callbacks=[last])
    assert shares(model) == DONE
    for ended, averaged in zip(weights, kernels(model), strict=True):
        np.testing.assert_array_equal(ended == 0, averaged == 0)
        assert not np.allclose(ended, averaged)


def test_averages_swapped_in_for_validation_are_pruned():
    seen = []
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.8)
    model = compiled(pruned_network(), optimizer)
    swap = keras.callbacks.SwapEMAWeights()
    look = keras.callbacks.Callback()
    look.on_test_batch_end = lambda batch, logs=None: seen.append(shares(model))
    fit(model, validation_data=(PICTURES[:4], LABELS[:4]), callbacks=[swap, look])
    assert seen == [DONE]


def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(tmp_path):
    whole = fit(compiled(pruned_network(end=20)), epochs=2)
    part = fit(compiled(pruned_network(end=20)))
    assert 0 < shares(part)["stem"] < 0.75
    part.save(tmp_path / "part.keras")
    resumed = fit(keras.models.load_model(tmp_path / "part.keras"))
    assert shares(resumed) == DONE
    assert int(resumed.get_layer("stem").kernel_constraint.step.numpy()) == 25
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


class StopError(Exception):
    pass


def train(folder, stop_at=None):
    """12 steps of the training program's loop, with a checkpoint after each; a moving average is kept."""
    model = pruned_network(end=10)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.8)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    trainer = Trainer(model, optimizer, lambda images, labels, logits: loss(labels, logits))

    def batches(first):
        for step in range(first, 12):
            if step == stop_at:
                raise StopError
            yield tf.constant(PICTURES[4 * step : 4 * step + 4]), tf.constant(LABELS[4 * step : 4 * step + 4])

    def evaluate(predict):
        return {"sparsity": km.sparsity(model).sparsity}

    checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, sums=len(trainer.figures))
    plan = Plan(epochs=3, steps_per_epoch=4, batch_size=4, checkpoint_seconds=0)
    trainer.train(batches, plan, checkpoints=checkpoints, history=History(folder, True), evaluate=evaluate, quiet=True)
    trainer.take_average()
    return model


def test_the_training_programs_loop_resumes_within_an_epoch(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = train(tmp_path / "whole")
    assert shares(whole) == DONE
    with pytest.raises(StopError):
        train(tmp_path / "broken", stop_at=6)
    resumed = train(tmp_path / "broken")
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_replicas_keep_the_same_masks():
    code = """
import tensorflow as tf
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from test_pruning_training import DONE, compiled, fit, pruned_network, shares
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.8)
    model = pruned_network("mixed_float16")
    compiled(model, keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=256.0))
fit(model)
assert shares(model) == DONE
layer = model.get_layer("pointwise")
masks, kernels, steps = (
    [replica.numpy() for replica in strategy.experimental_local_results(variable.value)]
    for variable in (layer.kernel_constraint.mask, layer.kernel, layer.kernel_constraint.step)
)
assert len(masks) == 2 and steps == [13, 13]
assert all(((kernel != 0) == mask).all() for kernel in kernels for mask in masks)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path.cwd())])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)


def test_projecting_outside_of_a_step_counts_no_step():
    model = pruned_network()
    constraint = model.get_layer("stem").kernel_constraint
    for _ in range(5):
        constraint(model.get_layer("stem").kernel)
    assert int(constraint.step.numpy()) == 1
    assert km.sparsity(model).zeros == 0


def test_quantization_aware_training_keeps_the_zeros():
    pruned = fit(compiled(pruned_network()))
    aware = km.quantize_aware(pruned, PICTURES[:8])
    fit(compiled(aware, keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True)), callbacks=[NeverComesBack()])
    for before, after in zip(kernels(pruned), kernels(aware), strict=True):
        np.testing.assert_array_equal(before == 0, after == 0)
        assert not np.array_equal(before, after)
    for name in ("stem", "pointwise", "logits"):
        layer = aware.get_layer(name)
        grid = np.asarray(layer.fake_quantized_kernel())
        assert (grid[np.asarray(layer.kernel) == 0] == 0).all()


def test_an_exports_model_has_the_zeros_and_no_masks():
    pruned = fit(compiled(pruned_network()))
    folded = km.fold_batch_norm(pruned)
    assert shares(folded) == DONE
    assert not any(weight.name in ("mask", "step") for weight in folded.weights)
    np.testing.assert_allclose(np.asarray(folded(PICTURES)), np.asarray(pruned(PICTURES)), atol=1e-4)
