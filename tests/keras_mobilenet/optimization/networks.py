"""Small networks that tests of optimization share."""

import keras
import numpy as np
from keras import layers

import keras_mobilenet as km
from keras_mobilenet import blocks


def images(count=8, size=32, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, size, size, 3)).astype("float32")


def small(activation="softmax", constraint=None):
    """Stem, inverted residual with a shortcut, a strided one, pooling and a dense classifier; 32 px."""
    image = keras.Input((32, 32, 3), name="image")
    options = {"use_bias": False, "padding": "same", "strides": 2, "kernel_constraint": constraint}
    x = layers.Conv2D(8, 3, name="stem", **options)(image)
    x = km.BatchNormalization(momentum=0.9, name="stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    for number, (filters, stride) in enumerate([(8, 1), (16, 2)]):
        x, _ = blocks.inverted_residual(x, filters, expansion=4, prefix=f"block_{number}_", stride=stride, momentum=0.9)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(image, layers.Dense(5, activation=activation, name="predictions")(x), name="small")


def settle(model, seed=0):
    """Gives every batch norm statistics and scales that are not those of a fresh layer."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    random.uniform(0.5, 2.0, gamma.shape) * random.choice([1, -1, 1], gamma.shape),
                    random.normal(0, 0.3, beta.shape),
                    random.normal(0, 0.3, mean.shape),
                    random.uniform(0.3, 2.0, variance.shape),
                ]
            )
    return model
