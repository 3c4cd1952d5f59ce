"""Puts the server together: engine, batching, faces, configuration polling; starts and drains them."""

import threading
import time
from pathlib import Path

from absl import logging
from tensorflow_serving.config import model_server_config_pb2

from serving.server import (
    backends,
    batch_scheduler,
    batching,
    batching_parameters,
    config,
    demo_page,
    engine,
    grpc_face,
    lifecycle,
    metrics,
    observing,
    rest_face,
    servable,
    status,
    text_protos,
    tls,
    warmup,
)

_SIGNAL_SECONDS = 0.1  # How often `wait` looks whether a signal has come.


class ModelServer:
    """A running server.

    Args:
        options: What the flags say.

    Raises:
        ServingError: For options that contradict each other, or files that do not parse.

    Example:
        >>> server = ModelServer(config.Options(grpc_port=0, model_base_path="/models/mobilenet"))
        >>> server.start()
        >>> server.grpc_port  # doctest: +SKIP
        43817
        >>> server.stop()
    """

    def __init__(self, options: config.Options) -> None:
        self._options = options
        self._initial = config.initial(options)
        self._credentials = tls.credentials(options.ssl_config_file)
        self._metrics_path = _metrics_path(options.monitoring_config_file)
        self._batching = batching_parameters.from_options(options)
        self._scheduler: batch_scheduler.BatchScheduler | None = None
        if self._batching:
            self._scheduler = batch_scheduler.BatchScheduler(self._batching.num_batch_threads)
        self.engine = engine.Engine(backends.choose(options), options, self._prepare)
        self._observer = observing.Observer(self.engine, options.request_log)
        self._grpc: grpc_face.GrpcFace | None = None
        self._rest: rest_face.RestFace | None = None
        self._stop_requested = False
        self._stopping = threading.Event()
        self._config_poller = threading.Thread(target=self._poll_config, name="config", daemon=True)

    @property
    def grpc_port(self) -> int:
        """The gRPC port, also where a free one was asked for; 0 before `start`."""
        return self._grpc.port if self._grpc else 0

    @property
    def rest_api_port(self) -> int:
        """The REST port; 0 where there is no REST face."""
        return self._rest.port if self._rest else 0

    def start(self) -> None:
        """Loads the models, then starts to answer; returns early when `stop` was called meanwhile.

        Raises:
            ServingError: Where a model fails to load or the gRPC port is taken.
        """
        added = self.engine.configure(self._initial)
        self.engine.start()
        self.engine.wait_until_available(added, lambda: self._stop_requested)
        if self._stop_requested:
            return
        context = grpc_face.Context(self.engine, self._observer, self._options)
        self._grpc = grpc_face.GrpcFace(context, self._credentials)
        self._grpc.start()
        self._start_rest()
        if self._options.model_config_file and self._options.model_config_file_poll_wait_seconds > 0:
            self._config_poller.start()

    def request_stop(self) -> None:
        """Asks `start` and `wait` to return; safe in a signal handler, as it takes no lock."""
        self._stop_requested = True

    def wait(self) -> None:
        """Waits until `request_stop` is called."""
        # Not an Event: a handler that sets it stops for good where it interrupts the wait while that holds the Event's
        # lock. And not without end: a signal just before the thread falls asleep would not wake it.
        while not self._stop_requested:
            time.sleep(_SIGNAL_SECONDS)

    def stop(self) -> None:
        """Refuses new requests, lets those under way finish, then frees everything."""
        self._stop_requested = True
        self._stopping.set()
        if self._config_poller.is_alive():
            self._config_poller.join()
        faces = [face for face in (self._grpc, self._rest) if face]
        stoppers = [threading.Thread(target=face.stop) for face in faces]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()
        self.engine.stop()
        if self._scheduler:
            self._scheduler.stop()
        self._observer.close()

    def _start_rest(self) -> None:
        port = self._options.rest_api_port
        if port == 0:
            return
        if port == self.grpc_port:
            logging.error(
                "--rest_api_port cannot be same as --port. Please use a different port for HTTP/REST API. Skipped "
                "exporting HTTP/REST API."
            )
            return
        api = rest_face.RestApi(self.engine, self._observer, self._options.rest_api_timeout_in_ms / 1000)
        page = demo_page.DemoPage(self.engine) if self._options.demo_page else None
        face = rest_face.RestFace(api, self._options, self._metrics_path, page)
        try:
            face.start()
        except OSError as error:
            logging.error("Failed to start HTTP Server at localhost:%d: %s", port, error)
            face.stop()
            return
        self._rest = face

    def _prepare(self, model: lifecycle.LoadedModel, path: Path) -> servable.Servable:
        if self._options.enable_model_warmup:
            warmup.run(model, path, self._options.num_request_iterations_for_warmup)
        if not self._scheduler:
            return model.servable
        parameters = batching_parameters.for_version(
            path, self._batching, self._options.enable_per_model_batching_parameters
        )
        if not parameters:
            return model.servable
        return batching.BatchingServable(model.servable, model.name, parameters, self._scheduler)

    def _poll_config(self) -> None:
        path, last = self._options.model_config_file, self._initial
        while not self._stopping.wait(self._options.model_config_file_poll_wait_seconds):
            try:
                new = text_protos.read(path, model_server_config_pb2.ModelServerConfig)
                self.engine.configure(new)  # Each time: the file outlasts HandleReloadConfigRequest, as in TF Serving.
            except status.ServingError as error:
                logging.log_every_n_seconds(
                    logging.ERROR, "PollFilesystemAndReloadConfig failed to ReloadConfig: %s", 60, error
                )
                continue
            if new != last:
                logging.info("Reloaded %s", path)
            last = new


def _metrics_path(monitoring_config_file: str) -> str:
    if not monitoring_config_file:
        return ""
    prometheus = text_protos.read(monitoring_config_file, text_protos.MonitoringConfig).prometheus_config
    return (prometheus.path or metrics.PATH) if prometheus.enable else ""
