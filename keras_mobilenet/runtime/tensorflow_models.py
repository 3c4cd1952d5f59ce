"""Keras files and SavedModels; the only part of the runtime that imports TensorFlow."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mobilenet.runtime.session import Backend, Session, TensorSpec


class KerasBackend(Backend):
    """A `.keras` file; all sessions share the model."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Loads the file; Keras raises ValueError or TypeError if it can't read it."""
        import keras

        self._model = keras.saving.load_model(path, compile=False)
        self.inputs = {tensor.name: _keras_spec(tensor, tensor.name) for tensor in self._model.inputs}
        names = self._model.output_names
        self.outputs = {
            name: _keras_spec(tensor, name) for name, tensor in zip(names, self._model.outputs, strict=True)
        }
        self._call = tf.function(self._outputs, reduce_retracing=True)

    def session(self) -> Session:
        """Makes a session; the model is shared, and so is its compiled function."""
        return _FunctionSession(self._call, self.inputs)

    def _outputs(self, **tensors: Any) -> dict[str, Any]:
        ordered = [tensors[name] for name in self.inputs]
        packed = tf.nest.pack_sequence_as(self._model.input, ordered) if len(ordered) > 1 else ordered[0]
        results = tf.nest.flatten(self._model(packed, training=False))
        return dict(zip(self.outputs, results, strict=True))


class SavedModelBackend(Backend):
    """A SavedModel directory through one of its signatures."""

    def __init__(self, path: str | os.PathLike[str], signature: str | None = None) -> None:
        """Loads the directory.

        Args:
            path: The directory with `saved_model.pb`.
            signature: By default `serving_default`.

        Raises:
            ValueError: If it has no such signature.
        """
        self._loaded = tf.saved_model.load(os.fspath(path))  # the function below doesn't keep it alive
        key = "serving_default" if signature is None else signature
        if key not in self._loaded.signatures:
            raise ValueError(f"{path} has no signature {key!r}; it has {sorted(self._loaded.signatures)}")
        self._call = self._loaded.signatures[key]
        arguments = self._call.structured_input_signature[1]
        self.inputs = {name: _spec(name, spec) for name, spec in arguments.items()}
        self.outputs = {name: _spec(name, spec) for name, spec in self._call.structured_outputs.items()}

    def session(self) -> Session:
        """Makes a session; the loaded graph is shared."""
        return _FunctionSession(self._call, self.inputs)


class _FunctionSession(Session):
    def __init__(self, call: Callable[..., Mapping[str, Any]], specs: Mapping[str, TensorSpec]) -> None:
        self._call, self._specs = call, specs
        self._tensors: dict[str, tf.Tensor] = {}
        self._results: Mapping[str, tf.Tensor] = {}

    def set(self, inputs: Mapping[str, np.ndarray]) -> None:
        self._tensors = {name: tf.constant(value, _dtype(self._specs[name])) for name, value in inputs.items()}

    def invoke(self) -> None:
        self._results = self._call(**self._tensors)

    def get(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self._results.items()}


def _dtype(spec: TensorSpec) -> Any:
    return tf.string if spec.dtype == "object" else tf.dtypes.as_dtype(spec.dtype)


def _keras_spec(tensor: Any, name: str) -> TensorSpec:
    return TensorSpec(name, tuple(tensor.shape), tensor.dtype)


def _spec(name: str, spec: Any) -> TensorSpec:
    shape = None if spec.shape.rank is None else tuple(spec.shape)
    dtype = "object" if spec.dtype == tf.string else spec.dtype.name
    return TensorSpec(name, shape, dtype)
