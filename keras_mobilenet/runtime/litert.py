"""LiteRT files on the CPU, and compiled ones on an Edge TPU."""

import ctypes
import importlib
import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from keras_mobilenet import tflite_file
from keras_mobilenet.export.edge_tpu import compiled
from keras_mobilenet.runtime.session import Backend, Session, TensorSpec

EDGE_TPU_LIBRARY = "libedgetpu.so.1"
_GET_LIBRARY = (
    "Install Coral's package libedgetpu1-std (serving/edge_tpu/README.md), or run the model that isn't compiled with "
    "device='cpu'."
)


class LiteRTBackend(Backend):
    """A .tflite file; each session is an interpreter of its own over the same bytes."""

    def __init__(
        self, path: str | os.PathLike[str], device: str = "cpu", signature: str | None = None, threads: int = 1
    ) -> None:
        """Loads the file.

        Args:
            path: The file.
            device: `cpu`, or an Edge TPU: `edgetpu` for any, `usb`, `usb:0`, `pci`, `pci:1`.
            signature: The file's signature to take names from; by default its first, or without one tensor names.
            threads: CPU threads per session.

        Raises:
            ValueError: If the file is damaged, the signature unknown, or file and device don't go together.
            RuntimeError: If the Edge TPU's library or the device is missing.
        """
        self._content = tflite_file.read_bytes(path)
        self._path, self._threads = os.fspath(path), threads
        model = tflite_file.read(self._content)
        self._device = device
        _check_device(model, device, self._path)
        self._options = {} if device == "edgetpu" else {"device": device}
        if device != "cpu":
            _check_library()
        tensors = model.main.tensors
        self._inputs, self._outputs = _names(model, signature)
        self.inputs = {name: _spec(name, tensors[index]) for name, index in self._inputs.items()}
        self.outputs = {name: _spec(name, tensors[index]) for name, index in self._outputs.items()}

    def session(self) -> Session:
        """Makes an interpreter; on an Edge TPU all of them share the device."""
        litert = _litert()
        delegates = [] if self._device == "cpu" else [_delegate(litert, self._device, self._options)]
        options = {"num_threads": self._threads, "experimental_delegates": delegates}
        try:
            interpreter = _interpreter(litert, self._content, **options)
        except RuntimeError as error:
            if "XNNPACK" not in str(error):
                raise RuntimeError(f"LiteRT can't run {self._path}: {error}") from error
            # XNNPACK refuses scales that it has no fixed-point factor for; LiteRT's own kernels have one.
            warnings.warn(f"XNNPACK can't run {self._path}; LiteRT's own kernels, which are slower, do.", stacklevel=2)
            plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = _interpreter(litert, self._content, experimental_op_resolver_type=plain, **options)
        except ValueError as error:
            raise RuntimeError(f"LiteRT can't run {self._path}: {error}") from error
        return _InterpreterSession(interpreter, self._inputs, self._outputs)


class _InterpreterSession(Session):
    def __init__(self, interpreter: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        self._interpreter = interpreter
        self._inputs, self._outputs = inputs, outputs
        details = {detail["index"]: detail for detail in interpreter.get_input_details()}
        self._shapes = {name: tuple(details[index]["shape"]) for name, index in inputs.items()}
        self._dtypes = {name: np.dtype(details[index]["dtype"]) for name, index in inputs.items()}
        self._views = {name: interpreter.tensor(index) for name, index in inputs.items()}

    def set(self, inputs: Mapping[str, np.ndarray]) -> None:
        if changed := {name: value.shape for name, value in inputs.items() if value.shape != self._shapes[name]}:
            self._resize(changed)
        for name, value in inputs.items():
            flags = value.flags
            if flags.writeable or not flags.c_contiguous or value.dtype != self._dtypes[name]:
                self._interpreter.set_tensor(self._inputs[name], value)
            else:
                # Read-only, as a request's values are: LiteRT would copy them twice, and let go of Python's lock.
                _bytes(self._views[name]())[:] = _bytes(value)

    def invoke(self) -> None:
        self._interpreter.invoke()

    def get(self) -> dict[str, np.ndarray]:
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}

    def _resize(self, changed: dict[str, tuple[int, ...]]) -> None:
        """Only a file with free sizes gets here with shapes other than before."""
        for name, shape in changed.items():
            self._interpreter.resize_tensor_input(self._inputs[name], shape, strict=True)
        self._interpreter.allocate_tensors()
        self._shapes |= changed


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _interpreter(litert: ModuleType, content: bytes, **options: Any) -> Any:
    interpreter = litert.Interpreter(model_content=content, **options)
    interpreter.allocate_tensors()
    return interpreter


def _litert() -> ModuleType:
    try:
        return importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise ImportError("running .tflite files needs LiteRT: pip install ai-edge-litert") from error


def _names(model: tflite_file.TFLiteFile, key: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """Names of inputs and outputs to tensor indices, in the graph's order."""
    graph = model.main
    signatures = {signature.key: signature for signature in model.signatures if signature.subgraph == 0}
    if key is None and not signatures:
        return (
            {graph.tensors[index].name: index for index in graph.inputs},
            {graph.tensors[index].name: index for index in graph.outputs},
        )
    key = key if key is not None else next(iter(signatures))
    if key not in signatures:
        raise ValueError(f"the file has no signature {key!r}; it has {sorted(signatures) or 'none'}")
    chosen = signatures[key]
    return dict(chosen.inputs), dict(chosen.outputs)


def _spec(name: str, tensor: tflite_file.Tensor) -> TensorSpec:
    shape = tuple(None if size < 0 else size for size in tensor.shape_signature)
    dtype = "object" if tensor.dtype == "string" else tensor.dtype
    quantization = tensor.quantization if tensor.dtype in ("int8", "uint8", "int16") else None
    return TensorSpec(name, shape, dtype, quantization, tensor.index)


def _check_device(model: tflite_file.TFLiteFile, device: str, name: str) -> None:
    if device == "cpu":
        if compiled.is_compiled(model):
            raise ValueError(
                f"{name} is compiled for an Edge TPU and doesn't run on the CPU: choose a device such as 'usb:0', "
                "or the file that it was compiled from."
            )
        return
    bus, _, number = device.partition(":")
    if bus not in ("edgetpu", "usb", "pci") or (number and (bus == "edgetpu" or not number.isdigit())):
        raise ValueError(f"device is {device!r}; known are 'cpu', 'edgetpu' (any), 'usb', 'usb:0', 'pci', 'pci:0', ...")
    if not compiled.is_compiled(model):
        raise ValueError(
            f"{name} isn't compiled for the Edge TPU: compile it (python -m serving.edge_tpu.compile), or choose "
            "device='cpu'."
        )


def _check_library() -> None:
    try:
        ctypes.CDLL(EDGE_TPU_LIBRARY)
    except OSError as error:
        raise RuntimeError(
            f"the Edge TPU's library {EDGE_TPU_LIBRARY} can't be loaded: {error}. {_GET_LIBRARY}"
        ) from error


def _delegate(litert: ModuleType, device: str, options: dict[str, str]) -> Any:
    try:
        return litert.load_delegate(EDGE_TPU_LIBRARY, options)
    except ValueError as error:
        raise RuntimeError(
            f"there is no Edge TPU at {device!r}, or it is in use: {error}. Look for it with lsusb (1a6e:089a or "
            "18d1:9302) or in /dev/apex_*; on USB the user has to be in the group plugdev."
        ) from error
