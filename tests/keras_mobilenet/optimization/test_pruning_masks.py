"""Masks and schedules against those of tensorflow-model-optimization on the same tensors."""

import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet.optimization import masks, tfmot
from keras_mobilenet.optimization.pruning_schedules import Schedule

tfmot.load()
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl  # noqa: E402

SHAPES = [(3, 3, 3, 16), (1, 1, 24, 7), (32, 10), (5, 5, 6, 1), (1, 1)]


def peers_mask(kernel, sparsity, block_size=(1, 1), pooling="AVG", m_by_n=None):
    peer = pruning_impl.Pruning(
        lambda: tf.constant(0), [], lambda step: (True, tf.constant(sparsity)), block_size, pooling, m_by_n
    )
    return peer._maybe_update_block_mask(tf.constant(kernel))[1].numpy().astype(bool)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.8, 0.99])
def test_unstructured_masks_equal_tfmots(shape, sparsity):
    kernel = normal(shape)
    np.testing.assert_array_equal(masks.magnitude_mask(kernel, sparsity), peers_mask(kernel, sparsity))


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_equal_magnitudes_and_zeros_are_treated_as_tfmot_treats_them(sparsity):
    kernel = np.random.default_rng(1).integers(-3, 4, (40, 25)).astype("float32") / 8
    np.testing.assert_array_equal(masks.magnitude_mask(kernel, sparsity), peers_mask(kernel, sparsity))


def test_magnitudes_of_all_sizes_have_the_right_threshold():
    kernel = normal((1000,)) * np.logspace(-37, 37, 1000, dtype="float32")
    for sparsity in (0.1, 0.37, 0.62, 0.999):
        np.testing.assert_array_equal(masks.magnitude_mask(kernel, sparsity), peers_mask(kernel, sparsity))


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@pytest.mark.parametrize("block_size", [(4, 1), (1, 4), (2, 2), (3, 5)])
@pytest.mark.parametrize("shape", [(16, 12), (33, 10)])
def test_block_masks_equal_tfmots(shape, block_size, pooling):
    kernel = normal(shape)
    ours = masks.magnitude_mask(kernel, 0.6, block_size, pooling)
    np.testing.assert_array_equal(ours, peers_mask(kernel, 0.6, block_size, pooling))


@pytest.mark.parametrize("shape", [(1, 1, 24, 8), (3, 3, 4, 6)])
def test_blocks_of_a_convolution_lie_in_its_matrix(shape):
    kernel = normal(shape)
    matrix = kernel.reshape(-1, shape[-1])  # tfmot prunes blocks of 2-D kernels only
    expected = peers_mask(matrix, 0.5, (4, 2)).reshape(shape)
    np.testing.assert_array_equal(masks.magnitude_mask(kernel, 0.5, (4, 2)), expected)


@pytest.mark.parametrize("m_by_n", [(2, 4), (1, 4), (3, 8)])
@pytest.mark.parametrize("shape", [(1, 1, 16, 8), (3, 3, 3, 16), (10, 7), (3, 3, 6, 1)])
def test_m_by_n_masks_equal_tfmots(shape, m_by_n):
    kernel = normal(shape)
    ours = masks.m_by_n_mask(kernel, m_by_n)
    np.testing.assert_array_equal(ours, peers_mask(kernel, 0.5, m_by_n=m_by_n))


def test_schedules_are_tfmots_after_saving_too():
    sparsity = tfmot.load().sparsity.keras
    assert km.PolynomialDecay is sparsity.PolynomialDecay
    assert km.ConstantSparsity is sparsity.ConstantSparsity
    for schedule in (
        sparsity.PolynomialDecay(0.1, 0.8, 2, 20, power=2, frequency=3),
        sparsity.ConstantSparsity(np.float64(0.5), np.int64(4), 12, 4),
    ):
        stored = Schedule(Schedule.of(schedule).config)
        for step in range(25):
            due, share = stored(tf.constant(step, tf.int64))
            expected_due, expected_share = schedule(tf.constant(step, tf.int64))
            assert (bool(due), float(share)) == (bool(expected_due), float(expected_share))
