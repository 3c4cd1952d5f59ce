"""How sparsity is shared out, against the formula of LAMP's paper."""

import numpy as np
import pytest

from keras_mobilenet.optimization.allocation import sparsities


def kernels(seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((3, 3, 3, 8), (1, 1, 8, 48), (1, 1, 48, 16), (32, 10))
    return [rng.normal(scale=scale, size=shape) for shape, scale in zip(shapes, (0.5, 0.02, 1.0, 0.1), strict=True)]


def papers_scores(kernel):
    """Equation 4, weight by weight: W[u]^2 / sum of W[v]^2 over all v with W[v]^2 >= W[u]^2."""
    squares = np.square(kernel).ravel()
    return np.array([square / squares[squares >= square].sum() for square in squares])


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.95])
def test_lamp_keeps_the_weights_that_the_papers_formula_keeps(sparsity):
    arrays = kernels()
    scores = [papers_scores(kernel) for kernel in arrays]
    together = np.concatenate(scores)
    largest = set(np.argsort(together)[round(sparsity * together.size) :])
    start, expected = 0, []
    for score in scores:
        kept = sum(start <= index < start + score.size for index in largest)
        expected.append(1 - kept / score.size)
        start += score.size
    np.testing.assert_allclose(sparsities(arrays, sparsity, "lamp"), expected, atol=1e-12)


def test_lamp_does_not_look_at_the_scale_of_a_kernel_and_spares_small_ones():
    arrays = kernels()
    scaled = [kernel * factor for kernel, factor in zip(arrays, (100, 1, 0.01, 7), strict=True)]
    shares = sparsities(arrays, 0.8, "lamp")
    np.testing.assert_allclose(sparsities(scaled, 0.8, "lamp"), shares, atol=1e-12)
    assert shares[0] < shares[2]  # 216 weights against 768


def test_no_kernel_is_emptied_and_zeros_go_first():
    arrays = kernels()
    assert max(sparsities(arrays, 0.999, "lamp")) < 1
    arrays[2].ravel()[:600] = 0
    assert sparsities(arrays, 0.5, "lamp")[2] >= 600 / 768
    assert sparsities([np.zeros((4, 4)), arrays[0]], 0.5, "lamp")[0] == 0


def test_uniform_is_the_same_share_everywhere():
    assert sparsities(kernels(), 0.8, "uniform") == [0.8] * 4
