"""Serves SavedModels: `python -m serving.server --model_name=NAME --model_base_path=DIRECTORY`."""

import faulthandler
import gc
import importlib.metadata
import os
import signal
import sys
import threading
from typing import NoReturn

from absl import app, logging

from keras_mobilenet import quiet

# A thread that waits for a request then reads it as well. gRPC's newer listener, its default, reads on threads of its
# own, which lengthens the 99th percentile (serving/server/README.md).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

with quiet.start_up():
    import tensorflow as tf

    from serving.server import backends, config, flags, memory, scheduling, server, status

    tf.config.list_physical_devices()  # Else absl looks for them when it starts, and TensorFlow notes what it lacks.

_FAILURE = 255  # TF Serving exits with -1.
_STOP_SECONDS = 30  # Beyond the drain: freeing models, and loads that have begun.


def main(argv: list[str]) -> int:
    """Starts the server and waits for SIGTERM or Ctrl-C."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument: {argv[1]}")
    if flags.flags.FLAGS.version:
        print(f"keras_mobilenet ModelServer (TF-Serving-compatible): {_version()}")
        print(f"TensorFlow Library: {tf.__version__}")
        return 0
    logging.set_verbosity(max(logging.INFO, logging.get_verbosity()))
    for complaint in flags.complaints():
        logging.warning(complaint)
    return _leave(_serve(flags.read()))


def _version() -> str:
    try:
        return importlib.metadata.version("keras-mobilenet")
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout"


def _serve(options: config.Options) -> int:
    scheduling.prefer_throughput()
    memory.set_up()
    gc.freeze()  # The libraries stay; collecting what a model left behind need not visit them.
    try:
        with quiet.start_up():
            quiet.first_session(backends.session_config(options))
        model_server = server.ModelServer(options)
    except status.ServingError as error:
        return _fail(error)
    _stop_on_signals(model_server)
    try:
        model_server.start()
        model_server.wait()
    except status.ServingError as error:
        _stop(model_server, options)
        return _fail(error)
    logging.info("Draining: requests under way get up to %g s", options.drain_seconds)
    return 0 if _stop(model_server, options) else _FAILURE


def _stop(model_server: server.ModelServer, options: config.Options) -> bool:
    """Stops the server; says False, and where each thread is, if that takes longer than it may."""
    stopping = threading.Thread(target=model_server.stop, name="stop", daemon=True)
    stopping.start()
    stopping.join(options.drain_seconds + _STOP_SECONDS)
    if stopping.is_alive():
        logging.error("The server did not stop in time; its threads are at:")
        faulthandler.dump_traceback(all_threads=True)
        return False
    return True


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for threads that are stuck in a request past its drain time."""
    logging.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _stop_on_signals(model_server: server.ModelServer) -> None:
    def stop(number: int, frame: object) -> None:
        # A second signal ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        model_server.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _fail(error: status.ServingError) -> int:
    print(f"Failed to start server. Error: {error}", file=sys.stderr)
    return _FAILURE


if __name__ == "__main__":
    flags.define()
    flags.flags.adopt_module_key_flags(flags)  # so that --help lists them
    app.run(main)
