import keras
import numpy as np
import pytest
import tensorflow as tf

from training import losses

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 1, 2])
IMAGES = np.zeros((6, 2, 2, 3), np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_keras_s(smoothing):
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction=None)
    loss = losses.cross_entropy(4, smoothing)
    one_hot = tf.one_hot(LABELS, 4)
    for labels in (tf.constant(LABELS), one_hot):
        np.testing.assert_allclose(loss(IMAGES, labels, LOGITS), expected(one_hot, LOGITS), rtol=1e-5)


@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_distillation_adds_the_divergence_from_the_teacher(activation):
    inputs = keras.Input((2, 2, 3))
    scores = np.array([1.0, -1.0, 0.5, 2.0], np.float32)
    start = keras.initializers.Constant(scores)
    x = keras.layers.Flatten()(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(4, activation, bias_initializer=start)(x))
    loss = losses.distillation(losses.cross_entropy(4), teacher, weight=0.25, temperature=3.0)

    def softened(logits):
        exponentials = np.exp(logits / 3.0)
        return exponentials / exponentials.sum(-1, keepdims=True)

    soft = softened(scores)
    divergence = np.sum(soft * (np.log(soft) - np.log(softened(LOGITS))), axis=-1)
    expected = 0.75 * np.asarray(losses.cross_entropy(4)(IMAGES, tf.constant(LABELS), LOGITS)) + 0.25 * 9 * divergence
    np.testing.assert_allclose(loss(IMAGES, tf.constant(LABELS), LOGITS), expected, rtol=1e-4, atol=1e-6)
