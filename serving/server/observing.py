"""Records every answered request: metrics, and the structured request log where a flag asks for it."""

import datetime
import json
import sys
import threading
from pathlib import Path
from typing import TextIO

from serving.server import engine, metrics


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

    @property
    def logs(self) -> bool:
        """Whether requests are logged; without a log only the arguments that metrics need matter."""
        return self._log is not None

    def record(
        self,
        api: str,
        entrypoint: str,
        model: str,
        code: str,
        seconds: float,
        *,
        version: int | None = None,
        signature: str = "",
        message: str = "",
        peer: str = "",
    ) -> None:
        """Records one request.

        Args:
            api: `Predict`, `Classify`, ...
            entrypoint: `GRPC` or `REST`.
            model: The model's name, as the request has it.
            code: The name of the status code.
            seconds: From the request's arrival to its answer.
            version: The version that answered, or that was asked for.
            signature: The signature.
            message: The error message.
            peer: The client's address.
        """
        metrics.request(model if self._models.knows(model) else "", api, entrypoint, code, seconds)
        if self._log is None:
            return
        entry = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "entrypoint": entrypoint,
            "api": api,
            "model": model,
            "version": version,
            "signature": signature,
            "code": code,
            "message": message,
            "latency_microseconds": round(seconds * 1e6),
            "peer": peer,
        }
        with self._lock:
            self._log.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Closes the log."""
        if self._log not in (None, sys.stderr):
            self._log.close()
