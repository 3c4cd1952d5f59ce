import numpy as np
import pytest
import tensorflow as tf

from tests.training.data.conftest import photo
from training.data import rand_augment as module
from training.data.rand_augment import OPERATIONS, rand_augment


def picture():
    return tf.cast(photo(4, height=32, width=48), tf.float32)


def seed(number):
    return tf.constant([number, 11], tf.int64)


def test_the_seed_decides():
    first = [rand_augment(picture(), 2, 9.0, seed(number)).numpy() for number in range(12)]
    again = [rand_augment(picture(), 2, 9.0, seed(number)).numpy() for number in range(12)]
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) >= 10
    for image in first:
        assert image.shape == (32, 48, 3)
        assert image.min() >= 0 and image.max() <= 255


def test_all_fourteen_operations_are_drawn():
    chosen = {int(tf.random.stateless_uniform([1, 2], seed(number))[0, 0] * 14) for number in range(300)}
    assert chosen == set(range(14)) == set(range(len(OPERATIONS)))


@pytest.mark.parametrize("number", [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
def test_strength_0_changes_nothing(number):
    image = tf.round(picture())
    np.testing.assert_allclose(OPERATIONS[number](image, tf.constant(0.0)), image, atol=1e-2)


@pytest.mark.parametrize("number", range(1, 14))
def test_full_strength_changes_the_picture_one_way_or_the_other(number):
    grain = np.random.default_rng(1).normal(0, 8, (32, 48, 3)).astype(np.float32)
    image = tf.clip_by_value(picture() * 0.7 + 20 + grain, 0, 255)
    changed = [OPERATIONS[number](image, tf.constant(level)).numpy() for level in (-1.0, 1.0)]
    assert max(np.abs(image - other).mean() for other in changed) > 1


def test_operations_on_known_pictures():
    image = picture()
    values = image.numpy()
    np.testing.assert_allclose(module._posterize(image, tf.constant(1.0)), np.floor(values / 16) * 16)
    np.testing.assert_allclose(module._solarize(image, tf.constant(0.5)), np.where(values < 128, values, 255 - values))
    np.testing.assert_allclose(module._brightness(image, tf.constant(-0.5)), 0.55 * values, rtol=1e-5)
    np.testing.assert_allclose(module._translate_x(image, tf.constant(1 / 0.3 / 12))[:, :-4], values[:, 4:], atol=1e-2)
    turned = module._rotate(image, tf.constant(1.0)).numpy()
    assert np.abs(turned[16, 24] - values[16, 24]).max() < 12  # the middle stays
    np.testing.assert_allclose(turned[0, 0], 128, atol=1e-3)  # the corner comes from beyond the edge


def test_auto_contrast_and_equalize_use_the_whole_range_of_each_channel():
    image = tf.round(picture() * 0.3 + 40)
    stretched = OPERATIONS[1](image, tf.constant(0.0)).numpy()
    np.testing.assert_allclose(stretched.min((0, 1)), 0, atol=1)
    np.testing.assert_allclose(stretched.max((0, 1)), 255, atol=1)
    levels = np.sort(OPERATIONS[2](image, tf.constant(0.0)).numpy().reshape(-1, 3), 0)
    middle = levels[len(levels) // 2]
    np.testing.assert_allclose(middle, 127.5, atol=15)
