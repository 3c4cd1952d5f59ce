"""The network that a recipe names, and models from files."""

import dataclasses
import importlib
from pathlib import Path

import keras

import keras_mobilenet as km
from training.recipe import Recipe


def build(recipe: Recipe, classes: int) -> keras.Model:
    """Builds the network with logits for `classes`.

    Args:
        recipe: Network, width multiplier, size, starting weights.
        classes: Number of classes; a classifier of another number in the weights file is left out.

    Returns:
        Float images [N, size, size, 3] in [-1, 1] -> logits [N, classes].
    """
    builder = {"mobilenet_v1": km.MobileNetV1, "mobilenet_v2": km.MobileNetV2}[recipe.model]
    shape = (recipe.image_size, recipe.image_size, 3)
    published = recipe.weights == "imagenet"
    model = builder(
        shape,
        alpha=recipe.alpha,
        weights=None if published else recipe.weights,
        classes=classes,
        classifier_activation=None,
        dropout=recipe.dropout,
        batch_norm_momentum=recipe.batch_norm_momentum,
    )
    if published:
        backbone = builder(shape, alpha=recipe.alpha, weights="imagenet", include_top=False)
        for layer in backbone.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = not recipe.freeze_batch_norm
    return model


def in_float32(model: keras.Model, recipe: Recipe, classes: int) -> keras.Model:
    """A network of `build` that was trained under a mixed policy, as the later stages and exports take it."""
    keras.config.set_dtype_policy("float32")
    result = build(dataclasses.replace(recipe, weights=None), classes)
    result.set_weights(model.get_weights())
    return result


def load(path: str | Path) -> keras.Model:
    """Loads a Keras file, whatever layers of this package stand in it."""
    for module in ("layers", "optimization.fake_quant_layers", "optimization.pruning_constraint"):
        importlib.import_module(f"keras_mobilenet.{module}")  # registers them
    return keras.models.load_model(path, compile=False)
