import numpy as np
import pytest

from training.paper import manifold


@pytest.mark.parametrize("dimensions", manifold.DIMENSIONS)
def test_collapse_is_what_the_signs_say(dimensions):
    """A random half-plane holds a point with probability 1/2, so that the number of active outputs is binomial."""
    collapsed = [loss.collapsed for loss in manifold.losses(dimensions, 200)]
    error = 0.5 / np.sqrt(200)  # of a mean of values in 0 to 1
    assert np.mean(collapsed) == pytest.approx(manifold.expected_collapse(dimensions), abs=4 * error)


def test_collapsed_points_have_neighbours_that_look_alike():
    curve, matrix = manifold.spiral(), np.array([[1.0, 0.0], [0.0, 1.0]])
    outputs = manifold.through(curve, matrix)
    dead = np.all(curve < 0, axis=1)
    assert dead.any() and not outputs[dead].any()  # a quarter of the spiral becomes one point
    assert manifold.loss(curve, matrix).collapsed == pytest.approx(0.75, abs=0.02)


def test_nothing_is_lost_where_every_output_has_its_opposite():
    """x = ReLU(x) - ReLU(-x)."""
    matrix = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    found = manifold.loss(manifold.spiral(), matrix)
    assert found.collapsed < 0.01  # but for points on an axis
    assert found.linear_error < 1e-6
    assert found.inverse_error == pytest.approx(0.5, abs=0.02)  # T⁺ halves what comes back


def test_losses_fall_with_the_dimensions():
    for figure in ("collapsed", "linear_error"):
        medians = [np.median([getattr(loss, figure) for loss in manifold.losses(n, 100)]) for n in manifold.DIMENSIONS]
        assert medians == sorted(medians, reverse=True)
        assert medians[0] > 0.3 and medians[-1] < 0.05


def test_figure(tmp_path):
    manifold.run(tmp_path, 10, 0)
    assert (tmp_path / manifold.FIGURE).read_bytes().startswith(b"\x89PNG")
    assert "| 30 |" in (tmp_path / manifold.DOCUMENT).read_text()
