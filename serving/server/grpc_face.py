"""The gRPC face: PredictionService, ModelService and health."""

import dataclasses
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

import grpc
from absl import logging
from google.protobuf import message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import config, engine, examples, inference, observing, queue_threads, servable, status

_MAX_MESSAGE_BYTES = 2**31 - 1
# A picture of 224 x 224 takes 147 KB: with HTTP/2's first window of 64 KB and frames of 16 KB each of them would cost
# waits and wake-ups on both sides.
_WINDOW_BYTES = 8 * 1024 * 1024
_FRAME_BYTES = 2**24 - 1
_FOREVER_SECONDS = 1e8
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_HEALTH_SERVICES = ("", "ModelService", "PredictionService")
_Response = TypeVar("_Response", bound=message.Message)


@dataclasses.dataclass(frozen=True)
class Context:
    """What the servicers need: the engine, the observer and the options."""

    models: engine.Engine
    observer: observing.Observer
    options: config.Options

    def answer(
        self,
        api: str,
        request: message.Message,
        rpc: grpc.ServicerContext | queue_threads.Rpc,
        work: Callable[[servable.Call], _Response],
    ) -> _Response:
        """Does the work within the client's deadline; its failure becomes the RPC's status."""
        start = time.perf_counter()
        call = servable.Call(_deadline(rpc), lambda: not rpc.is_active())
        response, failure = None, None
        try:
            response = work(call)
        except Exception as error:
            failure = status.from_exception(error)
        spec = _spec(response) or _spec(request)
        self.observer.record(api, "GRPC", spec, failure, time.perf_counter() - start, rpc.peer)
        if failure:
            rpc.abort(failure.code, status.truncate(failure.message))
        return response


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """tensorflow.serving.PredictionService."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def Predict(self, request: Any, context: grpc.ServicerContext | queue_threads.Rpc) -> Any:
        """Runs a signature on tensors."""
        as_content = self._context.options.enable_serialization_as_tensor_content
        return self._context.answer(
            "Predict",
            request,
            context,
            lambda call: inference.predict(self._context.models, request, call, as_content),
        )

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs a classify signature on examples."""
        return self._examples("Classify", request, context, examples.classify)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs a regress signature on examples."""
        return self._examples("Regress", request, context, examples.regress)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs several classify and regress signatures on the same examples."""
        return self._examples("MultiInference", request, context, examples.multi_inference)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Returns a model's signatures."""
        return self._context.answer(
            "GetModelMetadata",
            request,
            context,
            lambda call: inference.get_model_metadata(self._context.models, request),
        )

    def _examples(self, api: str, request: Any, context: grpc.ServicerContext, work: Callable[..., Any]) -> Any:
        return self._context.answer(api, request, context, lambda call: work(self._context.models, request, call))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """tensorflow.serving.ModelService."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Returns the states of a model's versions."""
        return self._context.answer(
            "GetModelStatus",
            request,
            context,
            lambda call: inference.get_model_status(self._context.models, request),
        )

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Replaces the configuration and waits for the models that are new in it."""
        return self._context.answer(
            "HandleReloadConfigRequest", request, context, lambda call: self._reload(request, call)
        )

    def _reload(self, request: Any, call: servable.Call) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise status.invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        added = self._context.models.configure(request.config)
        self._context.models.wait_until_available(added, stop=lambda: call.remaining() == 0)
        return model_management_pb2.ReloadConfigResponse()


class GrpcFace:
    """A gRPC server on a port and, where asked for, on a Unix socket.

    Args:
        context: What the servicers need.
        credentials: TLS, None for plain text.
    """

    def __init__(self, context: Context, credentials: grpc.ServerCredentials | None) -> None:
        options = context.options
        threads = max(1, options.grpc_max_threads)
        self._pool = futures.ThreadPoolExecutor(threads, "grpc")
        self._server = grpc.server(self._pool, options=_channel_arguments(options.grpc_channel_arguments))
        self._health = health.HealthServicer()
        predictions = PredictionService(context)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, self._server)
        self._predict_threads = self._on_queues(predictions.Predict, threads, options.pin_grpc_threads)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(context), self._server)
        if options.enable_grpc_healthcheck_service:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = self._listen(f"0.0.0.0:{options.grpc_port}", credentials)
        self._socket_path = options.grpc_socket_path
        self._drain_seconds = options.drain_seconds
        if self._socket_path:
            self._listen(f"unix:{self._socket_path}", credentials)

    def start(self) -> None:
        """Starts to answer."""
        self._server.start()
        if self._predict_threads:
            self._predict_threads.start()
        for service in _HEALTH_SERVICES:
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        logging.info("Running gRPC ModelServer at 0.0.0.0:%d ...", self.port)
        if self._socket_path:
            logging.info("Running gRPC ModelServer at UNIX socket %s ...", self._socket_path)

    def stop(self) -> None:
        """Refuses new requests, waits for those under way, and cancels them after `drain_seconds`."""
        self._health.enter_graceful_shutdown()
        if self._predict_threads:
            self._predict_threads.take_all()
        self._server.stop(self._drain_seconds).wait()
        self._pool.shutdown(wait=False)

    def _on_queues(self, predict: Callable[..., Any], count: int, pinned: bool) -> queue_threads.QueueThreads | None:
        if not queue_threads.available(self._server):
            logging.warning(
                "grpcio %s cannot answer Predict on completion queues: its own server does, which takes more CPU and "
                "keeps no threads on cores (--pin_grpc_threads)",
                grpc.__version__,
            )
            return None
        request, response = predict_pb2.PredictRequest, predict_pb2.PredictResponse
        handler = grpc.unary_unary_rpc_method_handler(predict, request.FromString, response.SerializeToString)
        return queue_threads.QueueThreads(self._server, _PREDICT, handler, count, pinned)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials:
                port = self._server.add_secure_port(address, credentials)
            else:
                port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            port, reason = 0, f": {error}"
        else:
            reason = ""
        if not port:
            raise status.invalid_argument(
                f"Failed to BuildAndStart gRPC server at {address}{reason}. Is another program listening there? "
                f"Choose another with --port (0 takes a free one)"
            )
        return port


def _deadline(rpc: grpc.ServicerContext | queue_threads.Rpc) -> float | None:
    left = rpc.time_remaining()
    # Without a deadline, grpcio gives the seconds to the end of time.
    return None if left is None or left > _FOREVER_SECONDS else time.monotonic() + left


def _channel_arguments(text: str) -> list[tuple[str, int | str]]:
    arguments: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),  # Else a second server would share the port in silence.
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),  # It measures what the window should be.
        ("grpc.http2.max_frame_size", _FRAME_BYTES),
        *queue_threads.CHANNEL_ARGUMENTS,
    ]
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise status.invalid_argument(
                f"--grpc_channel_arguments has {part!r}; key=value pairs, separated by commas, are expected"
            )
        arguments.append((key, int(value) if value.lstrip("-").isdigit() else value))
    return arguments


def _spec(message_or_none: message.Message | None) -> model_pb2.ModelSpec | None:
    spec = getattr(message_or_none, "model_spec", None)  # Not every request and response has one.
    return spec if spec and message_or_none.HasField("model_spec") else None
