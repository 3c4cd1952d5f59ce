import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import tiny
from training import history
from training.loop import Plan

PLAN = Plan(epochs=3, steps_per_epoch=2, batch_size=tiny.BATCH, checkpoint_seconds=0)


def accuracy(trainer):
    """Of the weights that are evaluated, as `evaluate` gets them."""
    images, labels = tiny.pictures(99)
    return lambda predict: {"accuracy": float(np.mean(np.argmax(predict(images), -1) == labels))}


def run(folder, *, interrupted_before=None, evaluate=accuracy, plan=PLAN, ema=True):
    trainer = tiny.trainer(ema=ema)
    trainer.train(
        lambda step: tiny.batches(step, interrupted_before),
        plan,
        evaluate=evaluate(trainer),
        quiet=True,
        **tiny.kept(folder, trainer),
    )
    return trainer


def state(trainer):
    variables = [*trainer.model.variables, *trainer.optimizer.variables]
    return [np.asarray(variable) for variable in variables]


def rows(folder):
    return [{**row, "seconds": 0} for row in history.read(folder)]


@pytest.mark.parametrize("step", range(PLAN.epochs * PLAN.steps_per_epoch))
def test_goes_on_from_any_step(tmp_path, step):
    whole = run(tmp_path / "whole")
    with pytest.raises(tiny.InterruptedTrainingError):
        run(tmp_path / "broken", interrupted_before=step)
    resumed = run(tmp_path / "broken")
    for expected, found in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


def test_goes_on_from_an_evaluation(tmp_path):
    def interrupted(trainer):
        measure = accuracy(trainer)

        def evaluate(predict):
            if int(trainer.optimizer.iterations) == 4:
                raise tiny.InterruptedTrainingError
            return measure(predict)

        return evaluate

    whole = run(tmp_path / "whole")
    with pytest.raises(tiny.InterruptedTrainingError):
        run(tmp_path / "broken", evaluate=interrupted)
    resumed = run(tmp_path / "broken")
    for expected, found in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


def test_no_epoch_leaves_the_weights(tmp_path):
    untouched = state(tiny.trainer(ema=True))
    trainer = run(tmp_path, plan=Plan(epochs=0, steps_per_epoch=2, batch_size=tiny.BATCH))
    for expected, found in zip(untouched, state(trainer), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert history.read(tmp_path) == []


def test_stops_early_and_stays_stopped(tmp_path):
    accuracies = {1: 0.3, 2: 0.5, 3: 0.5, 4: 0.4, 5: 0.9}
    seen = []

    def evaluate(trainer):
        def measure(predict):
            seen.append(int(trainer.optimizer.iterations) // 2)
            return {"accuracy": accuracies[seen[-1]]}

        return measure

    plan = Plan(epochs=5, steps_per_epoch=2, batch_size=tiny.BATCH, early_stop=2)
    first = run(tmp_path, evaluate=evaluate, plan=plan)
    again = run(tmp_path, evaluate=evaluate, plan=plan)
    assert seen == [1, 2, 3, 4]
    for expected, found in zip(state(first), state(again), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_sums_are_of_the_whole_epoch(tmp_path):
    run(tmp_path, ema=False)
    trainer = tiny.trainer()
    losses = [float(trainer.step(*tiny.pictures(step))[0]) / tiny.BATCH for step in range(6)]
    found = [row["loss"] for row in history.read(tmp_path)]
    np.testing.assert_allclose(found, np.reshape(losses, (3, 2)).mean(1), rtol=1e-6)


def test_a_step_descends_the_mean_loss_and_the_regularization():
    trainer = tiny.trainer(dropout=0.0, optimizer=keras.optimizers.SGD(0.1))
    model, (images, labels) = trainer.model, tiny.pictures(0)
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True), from_logits=True)
        loss = tf.reduce_mean(losses) + 0.01 * tf.reduce_sum(model.layers[1].kernel.value ** 2)
    before = [np.asarray(variable) for variable in model.trainable_variables]
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    trainer.step(images, labels)
    for variable, value, gradient in zip(model.trainable_variables, before, gradients, strict=True):
        np.testing.assert_allclose(np.asarray(variable), value - 0.1 * np.asarray(gradient), atol=1e-6)


def test_evaluates_the_moving_average_and_trains_on_without_it():
    trainer = tiny.trainer(ema=True)
    average = None
    for step in range(4):
        trainer.step(*tiny.pictures(step))
        weights = [np.asarray(variable) for variable in trainer.model.trainable_variables]
        average = weights if average is None else [0.7 * a + 0.3 * w for a, w in zip(average, weights, strict=True)]
    with trainer.averaged():
        for variable, expected in zip(trainer.model.trainable_variables, average, strict=True):
            np.testing.assert_allclose(np.asarray(variable), expected, atol=1e-6)
    for variable, expected in zip(trainer.model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), expected)
    trainer.take_average()
    for variable, expected in zip(trainer.model.trainable_variables, average, strict=True):
        np.testing.assert_allclose(np.asarray(variable), expected, atol=1e-6)


def test_scaled_losses_train_as_plain_ones(tmp_path):
    inner = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.7)
    scaled = tiny.trainer(optimizer=keras.optimizers.LossScaleOptimizer(inner, initial_scale=256.0))
    plain = tiny.trainer(ema=True)
    for step in range(4):
        scaled.step(*tiny.pictures(step))
        plain.step(*tiny.pictures(step))
    scaled.take_average()
    plain.take_average()
    for variable, other in zip(scaled.model.variables, plain.model.variables, strict=True):
        np.testing.assert_allclose(np.asarray(variable), np.asarray(other), atol=1e-5)


def test_evaluates_every_so_many_epochs_and_the_last(tmp_path):
    plan = Plan(epochs=5, steps_per_epoch=2, batch_size=tiny.BATCH, evaluate_every=2)
    run(tmp_path, plan=plan)
    found = history.read(tmp_path)
    assert [row["epoch"] for row in found if "accuracy" in row] == [2, 4, 5]
    assert all("loss" in row for row in found)
