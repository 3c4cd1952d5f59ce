import numpy as np
import pytest

from training import optimizers
from training.recipe import Recipe
from training.tasks.classification import TASK


@pytest.fixture(scope="module")
def model():
    return TASK.build(Recipe(alpha=0.35, image_size=32), "0123456789")


def rates(optimizer, steps):
    found = []
    for step in steps:
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


def test_only_kernels_of_convolutions_and_the_classifier_decay(model):
    spared = {id(variable) for variable in optimizers.without_decay(model)}
    decaying = [variable.path for variable in model.trainable_variables if id(variable) not in spared]
    assert decaying
    assert all(path.endswith("/kernel") and "depthwise" not in path for path in decaying)
    assert not any("depthwise" not in v.path and v.path.endswith("/kernel") for v in optimizers.without_decay(model))


def test_weight_decay_shrinks_just_those(model):
    recipe = Recipe(weight_decay=0.5, momentum=0.0, optimizer="sgd")
    optimizer = optimizers.build(recipe, model, learning_rate=0.1, steps=10, steps_per_epoch=5)
    spared = {id(variable) for variable in optimizers.without_decay(model)}
    variables = model.trainable_variables
    before = [np.asarray(variable) for variable in variables]
    optimizer.apply([np.zeros(variable.shape, np.float32) for variable in variables], variables)
    for variable, value in zip(variables, before, strict=True):
        factor = 1.0 if id(variable) in spared else 1 - 0.1 * 0.5
        np.testing.assert_allclose(np.asarray(variable), value * factor, rtol=1e-5, err_msg=variable.path)
        variable.assign(value)


def test_cosine_with_warm_up(model):
    recipe = Recipe(schedule="cosine")
    optimizer = optimizers.build(recipe, model, learning_rate=0.4, steps=100, steps_per_epoch=10, warmup_epochs=2.0)
    np.testing.assert_allclose(rates(optimizer, [0, 10, 20, 60, 100]), [0.0, 0.2, 0.4, 0.2, 0.0], atol=1e-6)


def test_stairs_of_the_papers(model):
    recipe = Recipe(schedule="exponential", optimizer="rmsprop", decay_rate=0.98, decay_epochs=1.0)
    optimizer = optimizers.build(recipe, model, learning_rate=0.045, steps=100, steps_per_epoch=10)
    np.testing.assert_allclose(
        rates(optimizer, [0, 9, 10, 25]), [0.045, 0.045, 0.045 * 0.98, 0.045 * 0.98**2], rtol=1e-5
    )
    assert (optimizer.rho, optimizer.momentum) == (0.9, 0.9)


def test_a_warm_up_longer_than_the_stage_is_refused(model):
    with pytest.raises(ValueError, match=r"warmup_epochs=2.0 takes 20 steps, but the stage has 20"):
        optimizers.build(Recipe(), model, learning_rate=0.1, steps=20, steps_per_epoch=10, warmup_epochs=2.0)
