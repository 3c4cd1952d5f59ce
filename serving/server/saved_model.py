"""Backend for TensorFlow SavedModels of either generation, run in a session as TF Serving does."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

# `tf.compat.v1.Session.run` spends 0.5 ms of Python on each call; the C binding it wraps spends 0.1 ms.
from tensorflow.python.client import pywrap_tf_session

from serving.server import servable, status

# Names of entries in the signature map that are there for the loader, not for clients.
_LOADER_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


class SavedModelBackend:
    """Loads SavedModels.

    Args:
        tags: The tags of the meta graph to load.
        config: Session configuration (threads, GPU options).
    """

    name = "TensorFlow"

    def __init__(self, tags: Sequence[str] = ("serve",), config: tf.compat.v1.ConfigProto | None = None) -> None:
        self._tags = list(tags)
        self._config = config

    def accepts(self, path: Path) -> bool:
        """Every directory is tried, so that one without a model fails with TensorFlow's own message."""
        return True

    def load(self, path: Path) -> "SavedModelServable":
        """Loads the meta graph with the tags into a session of its own."""
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=self._config)
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.loader.load(session, self._tags, str(path))
            _drop_functions(session)
        except OSError as error:
            session.close()
            raise status.not_found(
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path} ({error})"
            ) from error
        except RuntimeError as error:
            session.close()
            raise status.not_found(f"{error}; see --saved_model_tags") from error
        except BaseException:
            session.close()
            raise
        return SavedModelServable(session, meta_graph.signature_def)


class SavedModelServable:
    """A session with the loaded graph."""

    def __init__(self, session: tf.compat.v1.Session, signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> None:
        self._session = session
        self._signatures = {
            key: _copy(definition) for key, definition in signatures.items() if key not in _LOADER_SIGNATURES
        }
        self._endpoints: dict[str, object] = {}
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signatures of the meta graph."""
        return self._signatures

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], call: servable.Call
    ) -> list[np.ndarray]:
        """Feeds the inputs and fetches the outputs; see `Servable.run`."""
        definition = self._signatures[signature]
        feeds = {self._endpoint(definition.inputs[name].name): value for name, value in inputs.items()}
        fetches = [self._endpoint(definition.outputs[name].name) for name in outputs]
        results = _run(self._session, feeds, fetches, call.remaining())
        # A scalar comes as bytes or as a numpy scalar.
        return [result if isinstance(result, np.ndarray) else _scalar(result) for result in results]

    def close(self) -> None:
        """Closes the session, which frees its variables."""
        self._session.close()
        self._endpoints.clear()

    def _endpoint(self, tensor_name: str) -> object:
        endpoint = self._endpoints.get(tensor_name)
        if endpoint is None:
            if not tensor_name:
                raise status.ServingError(
                    status.grpc.StatusCode.UNIMPLEMENTED,
                    "This signature has a sparse or composite tensor, which a request cannot carry; "
                    "export it with dense tensors",
                )
            with self._lock:
                endpoint = self._session.graph.get_tensor_by_name(tensor_name)._as_tf_output()
                self._endpoints[tensor_name] = endpoint
        return endpoint


def _drop_functions(session: tf.compat.v1.Session) -> None:
    """Frees the functions of the graph that the session was loaded from.

    The session has its own copy of them. Those in Python and in its graph hold a frozen model's weights three more
    times, 48 MiB of 253 for a MobileNetV2.
    """
    session._extend_graph()  # A model without variables has run nothing yet, and the session copies at the first run.
    for name in list(session.graph._functions):
        session.graph._remove_function(name)


def _copy(definition: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    """Copies what is a part of the meta graph, all of which would stay in memory with it."""
    return meta_graph_pb2.SignatureDef.FromString(definition.SerializeToString())


def _scalar(value: bytes | np.generic) -> np.ndarray:
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _run(
    session: tf.compat.v1.Session, feeds: dict[object, np.ndarray], fetches: list[object], timeout: float | None
) -> list[np.ndarray]:
    if timeout is None:
        return session._call_tf_sessionrun(None, feeds, fetches, [], None)
    options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, min(int(timeout * 1000), 2**62)))
    buffer = pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())
    try:
        return session._call_tf_sessionrun(buffer, feeds, fetches, [], None)
    finally:
        pywrap_tf_session.TF_DeleteBuffer(buffer)
