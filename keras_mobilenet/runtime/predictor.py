"""The one way to run a stored model."""

import contextlib
import math
import os
import queue
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_mobilenet.runtime.artefact import Kind, find
from keras_mobilenet.runtime.quantizing import to_real, to_stored
from keras_mobilenet.runtime.session import Backend, Session, TensorSpec, Timing

Inputs = Any
"""One array for a model with one input, or arrays by input name."""


class Predictor:
    """Runs a stored model: a Keras file, a SavedModel, a LiteRT file, or a compiled one on an Edge TPU.

    It may be called from any number of threads. Each call takes one of `workers` sessions and waits while all are busy;
    a session of a LiteRT file is an interpreter with memory of its own, one of a Keras model or SavedModel is light.

    Attributes:
        kind: how the model is stored.
        path: the file or directory that was loaded.
        device: where it runs.
        inputs: name, shape, dtype and quantization of the inputs, by name.
        outputs: the same of the outputs.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        signature: str | None = None,
        workers: int = 1,
        threads: int = 1,
    ) -> None:
        """Loads a model.

        Args:
            path: A `.keras` or `.tflite` file, a SavedModel directory, or a directory of numbered versions.
            device: `cpu`; or an Edge TPU for a compiled .tflite file: `edgetpu` (any), `usb`, `usb:0`, `pci`, `pci:0`.
            signature: Signature of a SavedModel or .tflite file; by default `serving_default` or the file's first.
            workers: Sessions, and with them calls that run at once; at least 1.
            threads: CPU threads of each LiteRT session; TensorFlow has its own setting.

        Raises:
            FileNotFoundError: If there is nothing at the path.
            ValueError: If the model is damaged, the signature or device unknown, or model and device don't go together.
            RuntimeError: If the Edge TPU's library or the device is missing.

        Example:
            >>> import numpy as np
            >>> import keras_mobilenet as km
            >>> predictor = km.Predictor("mobilenet_v1_0.25_128_quant.tflite")  # doctest: +SKIP
            >>> predictor.predict(np.zeros((1, 128, 128, 3), "uint8"))  # doctest: +SKIP
            {'MobilenetV1/Predictions/Reshape_1': array([[0., ...]], dtype=float32)}
        """
        if workers < 1 or threads < 1:
            raise ValueError(f"workers is {workers} and threads {threads}; both have to be at least 1")
        artefact = find(path, prefer_tflite=device != "cpu")
        if device != "cpu" and artefact.kind is not Kind.TFLITE:
            raise ValueError(f"device is {device!r}, and {artefact.path} isn't a .tflite file compiled for an Edge TPU")
        self.kind, self.path, self.device = artefact.kind, artefact.path, device
        self._backend = _load(artefact.kind, os.fspath(artefact.path), device, signature, threads)
        self.inputs, self.outputs = self._backend.inputs, self._backend.outputs
        self._sessions: queue.LifoQueue[Session] = queue.LifoQueue()
        for _ in range(workers):
            self._sessions.put(self._backend.session())

    def predict(self, inputs: Inputs, dequantize: bool = True) -> dict[str, np.ndarray]:
        """Runs the model.

        Args:
            inputs: One array, or arrays by input name. For a quantized input floats are real values and are quantized
                by the file's parameters; integers are taken as stored. For a model of a fixed batch size any multiple
                of it is run in pieces.
            dequantize: Return real values, float32, for quantized outputs instead of stored integers.

        Returns:
            Arrays by output name.

        Raises:
            ValueError: If a name, shape or dtype doesn't fit.
        """
        return self.predict_timed(inputs, dequantize)[0]

    def predict_timed(self, inputs: Inputs, dequantize: bool = True) -> tuple[dict[str, np.ndarray], Timing]:
        """Does what `predict` does, and says how long setting, computing and fetching took."""
        stored = self._stored(inputs)
        with self._session() as session:
            pieces = [_run(session, piece) for piece in self._pieces(stored)]
        outputs = pieces[0][0]
        if len(pieces) > 1:
            outputs = {name: np.concatenate([np.atleast_1d(piece[name]) for piece, _ in pieces]) for name in outputs}
        if dequantize:
            outputs = {name: to_real(value, self.outputs[name]) for name, value in outputs.items()}
        times = [timing for _, timing in pieces]
        total = Timing(sum(t.set for t in times), sum(t.invoke for t in times), sum(t.get for t in times))
        return outputs, total

    def image_input(self, images: np.ndarray) -> np.ndarray:
        """Brings pictures into the range that the model's one input reads.

        Args:
            images: uint8 pixels, [N, H, W, 3] in the model's size.

        Returns:
            The pixels themselves for a uint8 input; for int8 and float inputs pixels scaled to [-1, 1], int8 quantized.
        """
        (spec,) = self.inputs.values()
        if images.dtype != np.uint8:
            raise ValueError(f"images are {images.dtype}; uint8 pixels are needed")
        if spec.dtype == "uint8":
            return images
        return to_stored(images.astype(np.float32) / 127.5 - 1.0, spec)

    def _stored(self, inputs: Inputs) -> dict[str, np.ndarray]:
        named = inputs if isinstance(inputs, Mapping) else {next(iter(self.inputs)): inputs}
        if set(named) != set(self.inputs):
            raise ValueError(f"the inputs given are {sorted(named)}; the model has {sorted(self.inputs)}")
        stored = {name: to_stored(np.asarray(named[name]), spec) for name, spec in self.inputs.items()}
        for name, value in stored.items():
            _check_shape(value.shape, self.inputs[name])
        return stored

    def _pieces(self, stored: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Cuts along the first dimension where the model's is fixed."""
        fixed = {name: spec.batch for name, spec in self.inputs.items() if spec.batch}
        counts = {len(stored[name]) // batch for name, batch in fixed.items()}
        if len(counts) > 1:
            raise ValueError(f"the inputs have different batch sizes: {[len(stored[name]) for name in fixed]}")
        for index in range(counts.pop() if counts else 1):
            yield stored | {name: stored[name][index * size : (index + 1) * size] for name, size in fixed.items()}

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        session = self._sessions.get()
        try:
            yield session
        finally:
            self._sessions.put(session)


def _load(kind: Kind, path: str, device: str, signature: str | None, threads: int) -> Backend:
    if kind is Kind.TFLITE:
        from keras_mobilenet.runtime.litert import LiteRTBackend

        return LiteRTBackend(path, device, signature, threads)
    from keras_mobilenet.runtime.tensorflow_models import KerasBackend, SavedModelBackend

    return KerasBackend(path) if kind is Kind.KERAS else SavedModelBackend(path, signature)


def _run(session: Session, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Timing]:
    start = time.perf_counter()
    session.set(inputs)
    ready = time.perf_counter()
    session.invoke()
    done = time.perf_counter()
    outputs = session.get()
    return outputs, Timing(ready - start, done - ready, time.perf_counter() - done)


def _check_shape(shape: tuple[int, ...], spec: TensorSpec) -> None:
    if spec.shape is None:
        return
    sizes = zip(shape[1:], spec.shape[1:], strict=False)
    fits = len(shape) == len(spec.shape) and all(wanted in (None, size) for size, wanted in sizes)
    if not fits or not math.prod(shape) or (spec.batch and shape[0] % spec.batch):
        free = f" ({spec.batch} may be any multiple of it)" if spec.batch else ""
        raise ValueError(f"input {spec.name!r} has the shape {shape}; the model reads {spec.shape}{free}")
