"""Training beside tf_keras with tensorflow-model-optimization: the same weights, pictures and SGD, the same masks."""

import keras
import numpy as np
import pytest

import keras_mobilenet as km
from keras_mobilenet.optimization import tfmot

STEPS = 24
PICTURES = np.random.default_rng(0).normal(size=(4 * STEPS, 6, 6, 5)).astype("float32")
LABELS = np.arange(4 * STEPS) % 3
LAYERS = ("first", "second", "logits")


def network(library):
    inputs = library.Input((6, 6, 5))
    x = library.layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = library.layers.Conv2D(12, 1, activation="relu", name="second")(x)
    x = library.layers.GlobalAveragePooling2D()(x)
    return library.Model(inputs, library.layers.Dense(3, name="logits")(x))


def train(library, model, callbacks):
    """Fits for `STEPS` steps of 4 pictures, in epochs of 8 steps."""
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(library.optimizers.SGD(0.05), loss)
    for start in range(0, len(PICTURES), 32):
        chosen = slice(start, start + 32)
        model.fit(PICTURES[chosen], LABELS[chosen], batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize("schedule", ["PolynomialDecay", "ConstantSparsity", "2:4"])
def test_masks_are_those_of_the_peer_step_by_step(schedule):
    sparsity = tfmot.load().sparsity.keras
    import tf_keras

    options = {"sparsity_m_by_n": (2, 4)} if schedule == "2:4" else {}
    if schedule == "PolynomialDecay":
        schedule = sparsity.PolynomialDecay(0.0, 0.8, 0, 20, frequency=3)
    else:
        schedule = sparsity.ConstantSparsity(0.5, 1, frequency=4)
    theirs = network(tf_keras)
    keras.utils.set_random_seed(0)
    ours = network(keras)
    theirs.set_weights(ours.get_weights())
    ours = km.prune(ours, schedule, **options)
    theirs = sparsity.prune_low_magnitude(theirs, schedule, **options)
    wrapped = {layer.layer.name: layer for layer in theirs.layers if hasattr(layer, "pruning_vars")}

    def our_masks():
        return [np.asarray(ours.get_layer(name).kernel_constraint.mask) for name in LAYERS]

    def their_masks():
        return [wrapped[name].pruning_vars[0][1].numpy().astype(bool) for name in LAYERS]

    ours_by_step, theirs_by_step = [our_masks()], []
    train(
        keras,
        ours,
        [keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ours_by_step.append(our_masks()))],
    )
    look = tf_keras.callbacks.LambdaCallback(on_batch_end=lambda *_, **__: theirs_by_step.append(their_masks()))
    train(tf_keras, theirs, [sparsity.UpdatePruningStep(), look])

    # The mask of a forward pass stands before it with us, and is made in it by tfmot.
    for expected, actual in zip(theirs_by_step, ours_by_step[:STEPS], strict=True):
        for a, b in zip(expected, actual, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len({masks[1].sum() for masks in theirs_by_step}) >= (5 if not options and schedule.end_step > 0 else 1)
    for name, mask in zip(LAYERS, their_masks(), strict=True):
        kernel = wrapped[name].layer.kernel.numpy() * mask
        np.testing.assert_allclose(np.asarray(ours.get_layer(name).kernel), kernel, rtol=1e-3, atol=1e-5)
