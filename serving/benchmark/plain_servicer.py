"""The peer: what one writes with grpcio alone, a thread pool that runs the model for each request."""

import json
import queue
import sys
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from keras_mobilenet import quiet
from serving.benchmark import orders
from serving.benchmark.models import LITE_FILE

with quiet.start_up():
    import grpc
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

_Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class PlainServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, nothing else.

    Args:
        run: Runs the model.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Any:
        """Runs the request by itself."""
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for name, value in self._run(inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


def _saved_model(version: Path) -> tuple[_Run, str]:
    loaded = tf.saved_model.load(str(version))
    (input_name,) = loaded.signatures["serving_default"].structured_input_signature[1]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # The signature alone would not keep the model's variables.
        outputs = loaded.signatures["serving_default"](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return run, input_name


def _litert(version: Path, interpreters: int) -> tuple[_Run, str]:
    from keras_mobilenet.runtime import litert

    backend = litert.LiteRTBackend(version / LITE_FILE)
    (input_name,) = backend.inputs
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(interpreters):
        free.put(backend.session())

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = free.get()
        try:
            session.set(inputs)
            session.invoke()
            return session.get()
        finally:
            free.put(session)

    return run, input_name


def main(settings: dict[str, Any]) -> None:
    """Starts on a free port of the loopback address, and tells it."""
    answers = orders.answering()
    version = Path(settings["version"])
    lite = settings["runtime"] == "litert"
    run, input_name = _litert(version, settings["interpreters"]) if lite else _saved_model(version)
    server = grpc.server(futures.ThreadPoolExecutor(settings["threads"]))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PlainServicer(run), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    orders.carry_out(answers, lambda order: order, port=port, input_name=input_name)
    server.stop(None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
