"""Lets `keras.models.load_model` find our layers after a bare `import keras_mobilenet`.

A `.keras` file names its layers, and Keras looks them up among those that have registered themselves, which happens
when their module is imported. The package loads lazily and must not import Keras by itself, so the modules with layers
are imported as soon as somebody else imports Keras.
"""

import contextlib
import importlib
from types import ModuleType

import wrapt

_LAYERS = "keras_mobilenet.layers"
_FAKE_QUANT = "keras_mobilenet.optimization.fake_quant"
_BUILT_ON_LAYERS = (
    "keras_mobilenet.detection.head",
    "keras_mobilenet.optimization.fake_quant_layers",
    "keras_mobilenet.optimization.pruning_constraint",
)


@wrapt.when_imported("keras")
def register_layers(keras: ModuleType) -> None:
    """Imports `keras_mobilenet.layers`, unless it is what is importing Keras."""
    importlib.import_module(_LAYERS)


@wrapt.when_imported(_FAKE_QUANT)
@wrapt.when_imported(_LAYERS)
def register_what_is_built_on_them(imported: ModuleType) -> None:
    """Imports the other modules with layers."""
    for module in _BUILT_ON_LAYERS:
        # What they need may be what is importing Keras, and not complete yet; this comes again when it is.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
