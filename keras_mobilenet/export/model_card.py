"""What an exported version says of itself."""

import datetime
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import keras

from keras_mobilenet import blocks, cost, mobilenet_v1, mobilenet_v2
from keras_mobilenet.export import arguments

FILE = "model_card.json"
_PACKAGES = ("keras-mobilenet", "tensorflow", "keras")


def describe(model: keras.Model, size: tuple[int, int]) -> dict[str, Any]:
    """What can be read off a model itself.

    Args:
        model: Any model of the zoo.
        size: Height and width of its input, in pixels.

    Returns:
        `name`, `architecture` and `alpha` (None where the model is not one of the networks), `image_size`, `classes`,
        `parameters`, `multiply_adds`, `created` (UTC), `versions` of the packages, `git_revision` (None outside a
        checkout).
    """
    architecture, alpha = _network(model)
    counted = cost.count(model, input_shape=(*size, model.input_shape[-1]))
    return {
        "name": model.name,
        "architecture": architecture,
        "alpha": alpha,
        "image_size": list(size),
        "classes": arguments.classes(model) or model.outputs[0].shape[-1],
        "parameters": counted.parameters,
        "multiply_adds": counted.multiply_adds,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {package: _version(package) for package in _PACKAGES},
        "git_revision": _git_revision(),
    }


def _network(model: keras.Model) -> tuple[str | None, float | None]:
    """Network and width multiplier, read off the widths of its last blocks."""
    filters = {layer.name: layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    if width := filters.get("conv_pw_13"):
        return "mobilenet_v1", _alpha(width, mobilenet_v1.BLOCKS[-1].filters)
    if width := filters.get("block_16_project"):
        return "mobilenet_v2", _alpha(width, mobilenet_v2.STAGES[-1].filters)
    return None, None


def _alpha(width: int, full_width: int) -> float:
    """The published width multiplier that gives `width`, or else the ratio."""
    published = (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
    fitting = [a for a in published if width in (int(full_width * a), blocks.make_divisible(int(full_width * a)))]
    return fitting[0] if fitting else width / full_width


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that this file belongs to; an installed copy belongs to none."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
