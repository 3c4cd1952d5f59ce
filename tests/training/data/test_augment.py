import numpy as np
import pytest
import tensorflow as tf

from training.data import augment


def pictures(count=6, height=9, width=12):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def test_shift_is_a_crop_of_the_reflected_picture():
    images, reflect = pictures(64), 4
    chance = np.random.default_rng(1).uniform(size=(64, 3)).astype(np.float32)
    changed = augment.flip_and_shift(tf.constant(images), tf.constant(chance), flip=True, reflect=reflect).numpy()
    for image, (flip, rows, columns), got in zip(images, chance, changed, strict=True):
        padded = np.pad(image, [(reflect, reflect), (reflect, reflect), (0, 0)], "reflect")
        top, left = int(rows * 9), int(columns * 9)
        expected = padded[top : top + 9, left : left + 12]
        np.testing.assert_array_equal(got, expected if flip < 0.5 else expected[:, ::-1])


def test_half_of_the_pictures_are_mirrored_and_no_change_is_none():
    images = pictures(400)
    chance = np.random.default_rng(2).uniform(size=(400, 3)).astype(np.float32)
    flipped = augment.flip_and_shift(tf.constant(images), tf.constant(chance), flip=True, reflect=0).numpy()
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 150 < mirrored.sum() < 250
    kept = augment.flip_and_shift(tf.constant(images), tf.constant(chance), flip=False, reflect=0)
    np.testing.assert_array_equal(kept, images)


def test_a_shift_beyond_the_picture_is_refused():
    with pytest.raises(ValueError, match="allow 0 to 8"):
        augment.flip_and_shift(tf.constant(pictures()), tf.zeros([6, 3]), flip=False, reflect=9)


def test_mixup_blends_pairs():
    images, labels = pictures(4).astype(np.float32), np.eye(4, dtype=np.float32)
    weight = np.array([1.0, 0.75, 0.5, 0.0], np.float32)
    mixed, shares = augment.mixup(tf.constant(images), tf.constant(labels), tf.constant(weight))
    np.testing.assert_allclose(mixed[0], images[0])
    np.testing.assert_allclose(mixed[1], 0.75 * images[1] + 0.25 * images[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(mixed[3], images[2])
    np.testing.assert_allclose(shares, [[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 1, 0]], atol=1e-6)


def test_cutmix_labels_are_the_areas():
    count = 200
    images = np.repeat(np.arange(count, dtype=np.float32)[:, None, None, None], 20, 1).repeat(30, 2).repeat(3, 3)
    labels = np.eye(count, dtype=np.float32)
    generator = np.random.default_rng(3)
    weight = generator.uniform(size=count).astype(np.float32)
    weight[0] = 1.0
    centre = generator.uniform(size=(count, 2)).astype(np.float32)
    mixed, shares = augment.cutmix(*(tf.constant(value) for value in (images, labels, weight, centre)))
    for number, (picture, share) in enumerate(zip(mixed.numpy(), shares.numpy(), strict=True)):
        own, other = np.mean(picture == number), np.mean(picture == (number ^ 1))
        assert own + other == pytest.approx(1)
        assert share[number] == pytest.approx(own, abs=1e-5)
        assert share.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(mixed[0], images[0])
    inner = np.all((centre > 0.45) & (centre < 0.55), 1) & (weight > 0.3)
    np.testing.assert_allclose(shares.numpy()[inner, np.flatnonzero(inner)], weight[inner], atol=0.1)


def test_beta_has_the_mean_and_the_spread_of_the_distribution():
    for alpha in (0.2, 1.0, 4.0):
        draws = augment.beta(alpha, 20000, tf.constant([1, 2], tf.int64)).numpy()
        assert draws.mean() == pytest.approx(0.5, abs=0.01)
        assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
        np.testing.assert_array_equal(draws, augment.beta(alpha, 20000, tf.constant([1, 2], tf.int64)))
