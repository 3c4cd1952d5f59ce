"""Comparison of a network with that of keras.applications."""

import keras
import numpy as np


def randomize(model: keras.Model, *, batch_norm: bool = True) -> None:
    """Gives every weight a value under which the outputs differ from class to class and from picture to picture.

    With `batch_norm` its weights and statistics too; then each block multiplies a rounding error.
    """
    chance = np.random.default_rng(0)
    for layer in model.layers:
        weights = [weight.shape for weight in layer.weights]
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [chance.uniform(0.8, 1.6, weights[0]), chance.normal(0.2, 0.3, weights[1])]
            values += [chance.normal(0, 0.1, weights[2]), chance.uniform(0.3, 1.2, weights[3])]
            if batch_norm:
                layer.set_weights(values)
        elif weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            fan_in = np.prod(weights[0][:2] if depthwise else weights[0][:-1])
            kernel = chance.normal(0, np.sqrt(2 / fan_in), weights[0])
            layer.set_weights([kernel, *(chance.normal(0, 1, bias) for bias in weights[1:])])


def structure(model: keras.Model) -> list:
    """Names and shapes of all weights, in the order in which files hold them."""
    return [(layer.name, [(w.name, tuple(w.shape)) for w in layer.weights]) for layer in model.layers if layer.weights]


def assert_equal_outputs(ours: keras.Model, theirs: keras.Model, size: int) -> None:
    """The same weights give the same probabilities, within 1e-5."""
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    pictures = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    expected = theirs(pictures).numpy()
    assert expected.std() > 1e-4 and np.abs(expected[0] - expected[1]).max() > 1e-4
    np.testing.assert_allclose(ours(pictures), expected, atol=1e-5)
