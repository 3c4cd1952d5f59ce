"""tensorflow-model-optimization, imported without its side effects; the only place that imports it."""

import functools
import os
from types import ModuleType

import tensorflow as tf


@functools.cache
def load() -> ModuleType:
    """Imports tensorflow_model_optimization and leaves `tf.keras` and `os.environ` as they are.

    The import sets `TF_USE_LEGACY_KERAS`, which turns a `tf.keras` that nobody has touched yet into Keras 2, and is
    inherited by child processes. So `tf.keras` is resolved before, and the environment restored after.

    Returns:
        The module.

    Raises:
        ImportError: It is not installed, or does not import.

    Example: `tfmot.load().sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 100)`
    """
    _ = tf.keras.__version__
    environment = dict(os.environ)
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise ImportError(
            f"km.prune and km.quantize_aware need tensorflow-model-optimization, which does not import ({error}): "
            'pip install "keras-mobilenet[optimization]"'
        ) from error
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
    return tensorflow_model_optimization
