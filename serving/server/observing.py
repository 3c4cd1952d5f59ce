"""Records every answered request: metrics, and the structured request log where a flag asks for it."""

import datetime
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tensorflow_serving.apis import model_pb2

from serving.server import engine, metrics, status


class Observer:
    """Counts and logs answered requests.

    Args:
        models: Tells configured models from names made up by clients, which must not become metric labels.
        log_path: Where to append one JSON object a line for each request; `-` is standard error, '' is nowhere.
    """

    def __init__(self, models: engine.Engine, log_path: str = "") -> None:
        self._models = models
        self._lock = threading.Lock()
        self._log: TextIO | None = None
        if log_path == "-":
            self._log = sys.stderr
        elif log_path:
            self._log = Path(log_path).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def record(
        self,
        api: str,
        entrypoint: str,
        spec: model_pb2.ModelSpec | None,
        failure: status.ServingError | None,
        seconds: float,
        peer: Callable[[], str],
    ) -> None:
        """Records one request.

        Args:
            api: `Predict`, `Classify`, ...
            entrypoint: `GRPC` or `REST`.
            spec: The model, version and signature that answered, or that were asked for; None where none were.
            failure: Why it failed, None if it did not.
            seconds: From the request's arrival to its answer.
            peer: Returns the client's address, for the log.
        """
        name = spec.name if spec else ""
        code = failure.code.name if failure else "OK"
        metrics.request(name if self._models.knows(name) else "", api, entrypoint, code, seconds)
        if self._log is None:
            return
        entry = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "entrypoint": entrypoint,
            "api": api,
            "model": name,
            "version": spec.version.value if spec and spec.HasField("version") else None,
            "signature": spec.signature_name if spec else "",
            "code": code,
            "message": failure.message if failure else "",
            "latency_microseconds": round(seconds * 1e6),
            "peer": peer(),
        }
        with self._lock:
            self._log.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Closes the log."""
        if self._log not in (None, sys.stderr):
            self._log.close()
