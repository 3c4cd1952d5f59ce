"""The peer: what one writes with grpcio alone, a thread pool that runs a SavedModel's signature for each request."""

import json
import sys
from concurrent import futures
from typing import Any

from keras_mobilenet import quiet
from serving.benchmark import orders

with quiet.start_up():
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class PlainServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict on `serving_default`, nothing else.

    Args:
        version: The SavedModel's directory.
    """

    def __init__(self, version: str) -> None:
        self._loaded = tf.saved_model.load(version)
        self._signature = self._loaded.signatures["serving_default"]
        (self.input_name,) = self._signature.structured_input_signature[1]

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Any:
        """Runs the request by itself."""
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for name, value in self._signature(**inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response


def main(settings: dict[str, Any]) -> None:
    """Starts on a free port of the loopback address, and tells it."""
    answers = orders.answering()
    server = grpc.server(futures.ThreadPoolExecutor(settings["threads"]))
    servicer = PlainServicer(settings["version"])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    orders.carry_out(answers, lambda order: order, port=port, input_name=servicer.input_name)
    server.stop(None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
