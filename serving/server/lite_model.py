"""Backend for `model.tflite`: a pool of LiteRT interpreters on the CPU, or one on an Edge TPU."""

import queue
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2

from keras_mobilenet import tflite_file
from keras_mobilenet.runtime import litert, session
from serving.server import config, servable, status

FILE = "model.tflite"
EDGE_TPU_FILE = "model_edgetpu.tflite"
# TF Serving reads a .tflite file's signatures from this metadata buffer and from nowhere else.
SIGNATURES_METADATA = "signature_defs_metadata"
_PREDICT_METHOD = "tensorflow/serving/predict"


class LiteRTBackend:
    """Loads `model.tflite`, or for an Edge TPU `model_edgetpu.tflite` where there is one.

    Args:
        device: `cpu`, or an Edge TPU: `edgetpu`, `usb:0`, `pci:0`, ...
        interpreters: Requests that run at the same time; 0 is one for each CPU. An Edge TPU runs one.
    """

    name = "LiteRT"

    def __init__(self, device: str = "cpu", interpreters: int = 0) -> None:
        self._device = device
        self._interpreters = (interpreters or config.CPUS) if device == "cpu" else 1

    def accepts(self, path: Path) -> bool:
        """Takes directories with such a file; for an Edge TPU every one, so that a missing file is an error."""
        return self._device != "cpu" or (path / FILE).exists()

    def load(self, path: Path) -> "LiteRTServable":
        """Makes the interpreters and reads the signatures."""
        file = path / FILE
        if self._device != "cpu" and (path / EDGE_TPU_FILE).exists():
            file = path / EDGE_TPU_FILE
        try:
            content = tflite_file.read(file)
            backend = litert.LiteRTBackend(file, self._device)
            sessions = [backend.session() for _ in range(self._interpreters)]
        except FileNotFoundError as error:
            raise status.not_found(str(error)) from error
        except ValueError as error:
            raise status.failed_precondition(str(error)) from error
        except (RuntimeError, ImportError) as error:
            raise status.unavailable(str(error)) from error
        return LiteRTServable(backend, sessions, content)


class LiteRTServable:
    """Interpreters of one file, each used by one request at a time."""

    def __init__(
        self, backend: session.Backend, sessions: Sequence[session.Session], content: tflite_file.TFLiteFile
    ) -> None:
        names = [tensor.name for tensor in content.main.tensors]
        inputs = {names[spec.index]: spec for spec in backend.inputs.values()}
        outputs = {names[spec.index]: spec for spec in backend.outputs.values()}
        self._batch = _fixed_batch(backend)
        self._signatures = _signatures(content, inputs, outputs, free_rows=self._batch is not None)
        # Sessions may go by the names of a signature of the file's own.
        named = self._signatures.items()
        self._inputs = {key: _session_names(definition.inputs, inputs) for key, definition in named}
        self._outputs = {key: _session_names(definition.outputs, outputs) for key, definition in named}
        self._sessions: queue.SimpleQueue[session.Session] = queue.SimpleQueue()
        for made in sessions:
            self._sessions.put(made)

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signatures of the file's metadata, or one with raw tensor names."""
        return self._signatures

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], call: servable.Call
    ) -> list[np.ndarray]:
        """Runs the file; a request of more rows than its fixed batch in pieces. See `Servable.run`."""
        fed, fetched = self._inputs[signature], self._outputs[signature]
        feeds = {fed[name]: value for name, value in inputs.items()}
        wanted = [fetched[name] for name in outputs]
        try:
            taken = self._sessions.get(timeout=call.remaining())
        except queue.Empty:
            raise status.deadline_exceeded("No interpreter was free before the deadline") from None
        try:
            return _run(taken, feeds, wanted, self._batch, call)
        except ValueError as error:
            raise status.invalid_argument(str(error)) from error
        except RuntimeError as error:
            raise status.ServingError(status.grpc.StatusCode.INTERNAL, str(error)) from error
        finally:
            self._sessions.put(taken)

    def close(self) -> None:
        """Lets the interpreters go."""
        while not self._sessions.empty():
            self._sessions.get_nowait()


def _run(
    taken: session.Session,
    feeds: Mapping[str, np.ndarray],
    wanted: Sequence[str],
    batch: int | None,
    call: servable.Call,
) -> list[np.ndarray]:
    rows = {len(value) for value in feeds.values()} if batch else set()
    if len(rows) > 1:
        raise status.invalid_argument(f"The inputs have different numbers of rows: {sorted(rows)}")
    if not batch or rows == {batch}:
        return _invoke(taken, feeds, wanted)
    if rows == {0}:
        raise status.invalid_argument(f"The inputs have no rows; this model runs {batch} at a time")
    pieces = []
    for piece in _pieces(feeds, batch):
        call.remaining()
        pieces.append(_invoke(taken, piece, wanted))
    return [np.concatenate(column)[: max(rows)] for column in zip(*pieces, strict=True)]


def _invoke(taken: session.Session, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
    taken.set(feeds)
    taken.invoke()
    results = taken.get()
    return [results[name] for name in wanted]


def _pieces(feeds: Mapping[str, np.ndarray], batch: int) -> Iterator[dict[str, np.ndarray]]:
    count = len(next(iter(feeds.values())))
    for start in range(0, count, batch):
        piece = {name: value[start : start + batch] for name, value in feeds.items()}
        lacking = start + batch - count
        if lacking > 0:
            piece = {name: np.concatenate([value, np.repeat(value[-1:], lacking, 0)]) for name, value in piece.items()}
        yield piece


def _fixed_batch(backend: session.Backend) -> int | None:
    """Returns the first dimension that all inputs and outputs share, None where there is none or it is free."""
    batches = {spec.batch for spec in (*backend.inputs.values(), *backend.outputs.values())}
    return batches.pop() if len(batches) == 1 else None


def _signatures(
    content: tflite_file.TFLiteFile,
    inputs: Mapping[str, session.TensorSpec],
    outputs: Mapping[str, session.TensorSpec],
    free_rows: bool,
) -> dict[str, meta_graph_pb2.SignatureDef]:
    if SIGNATURES_METADATA not in content.metadata:
        definition = meta_graph_pb2.SignatureDef(method_name=_PREDICT_METHOD)
        for infos, specs in ((definition.inputs, inputs), (definition.outputs, outputs)):
            for name, spec in specs.items():
                _fill(infos[name], name, spec, free_rows)
        return {servable.DEFAULT_SIGNATURE: definition}
    found = {}
    for key, serialized in _read_metadata(content.metadata[SIGNATURES_METADATA]):
        definition = meta_graph_pb2.SignatureDef.FromString(serialized)
        if _resolve(definition.inputs, inputs, free_rows) and _resolve(definition.outputs, outputs, free_rows):
            found[key] = definition
        else:
            logging.warning("Signature %s of %s names tensors that are no inputs or outputs; it is left out", key, FILE)
    return found


def _session_names(
    infos: Mapping[str, meta_graph_pb2.TensorInfo], specs: Mapping[str, session.TensorSpec]
) -> dict[str, str]:
    return {name: specs[info.name].name for name, info in infos.items()}


def _read_metadata(buffer: memoryview) -> list[tuple[str, bytes]]:
    try:
        entries = flexbuffers.GetRoot(bytes(buffer)).AsMap
        keys = [key.AsKey for key in entries.Keys]
        # TensorFlow's C++ writes strings; Python's builder writes bytes as blobs.
        values = [value.AsStringBytes if value.IsString else value.AsBlob for value in entries.Values]
    except Exception as error:
        raise status.failed_precondition(f"{FILE}: its {SIGNATURES_METADATA} cannot be read: {error}") from error
    return [(key, bytes(value)) for key, value in zip(keys, values, strict=True)]


def _resolve(
    infos: Mapping[str, meta_graph_pb2.TensorInfo], specs: Mapping[str, session.TensorSpec], free_rows: bool
) -> bool:
    for info in infos.values():
        name = info.name if info.name in specs else info.name.removesuffix(":0")
        if name not in specs:
            return False
        _fill(info, name, specs[name], free_rows)
    return True


def _fill(info: meta_graph_pb2.TensorInfo, name: str, spec: session.TensorSpec, free_rows: bool) -> None:
    info.name = name
    info.dtype = tf.as_dtype("string" if spec.dtype == "object" else spec.dtype).as_datatype_enum
    info.ClearField("tensor_shape")
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    for size in spec.shape:
        info.tensor_shape.dim.add(size=-1 if size is None else size)
    if free_rows:
        info.tensor_shape.dim[0].size = -1
