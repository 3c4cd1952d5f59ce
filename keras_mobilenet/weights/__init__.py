"""Weights of the networks: the files that Keras publishes, local files, and quantized TFLite files."""

import os
from pathlib import Path
from typing import Any

import keras

from keras_mobilenet.weights import keras_files, published, tflite

_TFLITE_MAGIC = b"TFL3"  # at byte 4


def load_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads weights from a file into a model, by layer name.

    What the file is, its content says: `.keras`, `.weights.h5` or `.h5` (a whole model or weights alone), or a
    `.tflite` file of MobileNetV1, V2 or DeepLabv3, whose weights are dequantized. All layers of the backbone have to
    fit. Layers behind it, such as a classifier of other classes, keep their values where the file has none that fit,
    with a warning that names them. The model changes only after the whole file was read and fits.

    Args:
        model: A built model: one of this package, or a model with one inside.
        path: The file.

    Raises:
        ValueError: There is no such file, or it is truncated, damaged, of another kind, or of another network. The
            model is as it was.

    Example:
    ```python
    model = km.MobileNetV2(alpha=1.0)
    km.load_weights(model, "mobilenet_v2_1.0_224_quant.tflite")
    ```
    """
    _load(model, path, callers=1)


def initialize(
    model: keras.Model,
    weights: str | os.PathLike[str] | None,
    *,
    network: str,
    alpha: float,
    include_top: bool,
) -> None:
    """Gives a freshly built network its weights.

    Args:
        model: The network.
        weights: None to leave it random, "imagenet" for the published weights, or a file.
        network: "mobilenet_v1" or "mobilenet_v2".
        alpha: Its width multiplier.
        include_top: Whether it ends in the classifier.

    Raises:
        ValueError: The file does not exist, is damaged or does not fit, or no such weights are published.
        OSError: The published weights can't be downloaded.
    """
    if weights is None:
        return
    if isinstance(weights, str) and weights == "imagenet":
        _check_published_architecture(model, network)
        size = model.get_layer("conv1" if network == "mobilenet_v1" else "Conv1").input.shape[1:3]
        weights = published.fetch(network, published.choose(network, alpha, size, include_top))
    _load(model, weights, callers=2)


def divisor(weights: str | os.PathLike[str] | None) -> int:
    """What MobileNetV2's channel counts have to be rounded to multiples of for a file to fit.

    Args:
        weights: None, "imagenet", or a file.

    Returns:
        1 for a `.tflite` file whose channel counts are not rounded, as DeepLab's; else 8.

    Raises:
        ValueError: The file does not exist, or it is a damaged `.tflite` file.
    """
    if weights is None or weights == "imagenet":
        return 8
    file = _checked_path(weights)
    return tflite.divisor(file) if _kind(file) == "tflite" else 8


def _load(model: keras.Model, path: Any, callers: int) -> None:
    """Loads a file; `callers` of this package stand between here and the user, whom a warning points at."""
    if not model.built:
        raise ValueError(f"`{model.name}` is not built yet: call it on a picture, or build(), before loading weights.")
    file = _checked_path(path)
    values = tflite.read(file, model) if _kind(file) == "tflite" else keras_files.read(file, model)
    values.carry_out(str(file), stacklevel=callers + 3)


def _checked_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f'`weights={path!r}` is none of None, "imagenet" and the path of a file.')
    file = Path(path).expanduser()
    kinds = 'pass None (random), "imagenet", or a .keras, .weights.h5, .h5 or .tflite file'
    if file.is_dir():
        raise ValueError(f"`weights`: {file} is a folder, not a file of weights: {kinds}.")
    if not file.is_file():
        raise ValueError(f"`weights`: there is no file {file}: {kinds}.")
    return file


def _kind(file: Path) -> str:
    """Which reader a file is for, by its first bytes: "keras" or "tflite"."""
    with file.open("rb") as stream:
        head = stream.read(8)
    if head[4:8] == _TFLITE_MAGIC:
        return "tflite"
    if head == keras_files.HDF5_MAGIC or head[:4] == keras_files.ZIP_MAGIC:
        return "keras"
    size = file.stat().st_size
    raise ValueError(
        f"{file} is no file of weights that is read here: "
        + (f"its {size:,} bytes begin with {head!r}. " if size else "it is empty. ")
        + "Pass a .keras, .weights.h5, .h5 or .tflite file. The model is unchanged."
    )


def _check_published_architecture(model: keras.Model, network: str) -> None:
    """Raises ValueError where a variant of the network is to have weights that were trained for the paper's own."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Add, keras.layers.ReLU)
    found = {layer.name for layer in model.layers if isinstance(layer, kinds)} - {"conv_preds"}
    differing = sorted(found ^ _published_layers(network))
    multipliers = {layer.depth_multiplier for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)}
    stem = model.get_layer("conv1" if network == "mobilenet_v1" else "Conv1")
    if differing:
        variant = f"this variant ({', '.join(f'`{name}`' for name in differing[:3])} differ)"
    elif multipliers != {1}:
        variant = f"depth_multiplier={max(multipliers)}"
    elif stem.input.shape[-1] != 3:
        variant = f"pictures with {stem.input.shape[-1]} channels"
    else:
        return
    raise ValueError(
        f'`weights="imagenet"` is published for the network of the paper on RGB pictures, not for {variant}: leave '
        "that argument at its default, or pass `weights=None` or a file."
    )


def _published_layers(network: str) -> set[str]:
    """Names of the convolutions, shortcuts and ReLU6 of the paper's network."""
    if network == "mobilenet_v1":
        convolutions = {"conv1"} | {f"conv_{kind}_{block}" for kind in ("dw", "pw") for block in range(1, 14)}
        return convolutions | {f"{name}_relu" for name in convolutions}
    expansions = {f"block_{block}_{part}" for block in range(1, 17) for part in ("expand", "depthwise")}
    activated = expansions | {"Conv1", "expanded_conv_depthwise"}
    projections = {f"block_{block}_project" for block in range(1, 17)} | {"expanded_conv_project", "Conv_1"}
    shortcuts = {f"block_{block}_add" for block in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)}
    return activated | projections | shortcuts | {f"{name}_relu" for name in activated} | {"out_relu"}
