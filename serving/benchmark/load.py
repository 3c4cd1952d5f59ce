"""Load on a server: a process of clients, and what came of a round of requests."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from keras_mobilenet import client as tf_serving
from keras_mobilenet import wire
from serving.benchmark import orders, processes
from serving.benchmark.client import PREDICT

# gRPC's older client: who waits for an answer reads it, for a sixth less CPU, which the server then has.
_CLIENTS_ENVIRONMENT = {"GRPC_EXPERIMENTS": "-event_engine_client"}


@dataclasses.dataclass(frozen=True)
class Round:
    """What clients saw in one round.

    Args:
        latencies: Seconds of each answered request.
        elapsed: Seconds from the first request to the last answer.
        cpu_seconds: Of the server's process meanwhile.
        failed: Requests that got an error.
        wrong: Answers that were not the right ones.
        errors: A few of the errors.
    """

    latencies: np.ndarray
    elapsed: float
    cpu_seconds: float
    failed: int
    wrong: int
    errors: tuple[str, ...]

    @property
    def pictures(self) -> int:
        """Answered requests; each has one picture."""
        return len(self.latencies)

    @property
    def throughput(self) -> float:
        """Pictures per second."""
        return self.pictures / self.elapsed

    @property
    def cpu_per_picture(self) -> float:
        """CPU seconds of the server for a picture."""
        return self.cpu_seconds / self.pictures

    def require_success(self) -> "Round":
        """Returns itself.

        Raises:
            RuntimeError: A request failed; the round's figures then mean nothing.
        """
        if self.failed or not self.pictures:
            raise RuntimeError(f"{self.failed} requests failed, {self.pictures} were answered: {self.errors}")
        return self


class Load:
    """Clients of one server.

    Args:
        clients: Their process.
        pid: The server's process.
    """

    def __init__(self, clients: orders.Child, pid: int) -> None:
        self._clients = clients
        self._pid = pid

    def closed_loop(self, seconds: float) -> Round:
        """Each client sends its next request when the last one has been answered."""
        return self._round(loop="closed", seconds=seconds)

    def open_loop(self, seconds: float, rate: float) -> Round:
        """All clients together send `rate` requests a second at random times, however long answers take."""
        return self._round(loop="open", seconds=seconds, rate=rate)

    def _round(self, **order: float | str) -> Round:
        cpu, start = processes.cpu_seconds(self._pid), time.perf_counter()
        result = self._clients.ask(**order)
        elapsed = time.perf_counter() - start
        return Round(
            np.array(result["latencies"]),
            elapsed,
            processes.cpu_seconds(self._pid) - cpu,
            result["failed"],
            result["wrong"],
            tuple(result["errors"]),
        )


@contextmanager
def on(
    address: str,
    pid: int,
    request: bytes,
    clients: int,
    *,
    method: str = PREDICT,
    punctual: bool = False,
    expected: Path | None = None,
) -> Iterator[Load]:
    """Connects clients to a server.

    Args:
        address: Host and port.
        pid: The server's process.
        request: What to ask, serialized; `predict_request` makes one.
        clients: Their number.
        method: Full name of the RPC.
        punctual: Whether they interrupt the server, to send at their times; else they wait until it lets go of a core,
            as they do not take any of its cores where they are elsewhere.
        expected: Right answers, to check against; see `answers`.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        with orders.Child(
            "serving.benchmark.client",
            environment=_CLIENTS_ENVIRONMENT,
            address=address,
            request=file.name,
            count=clients,
            method=method,
            punctual=punctual,
            expected=str(expected or ""),
        ) as child:
            yield Load(child, pid)


def predict_request(picture: Path, input_name: str) -> bytes:
    """A PredictRequest about a picture, .npy."""
    request = wire.message_class("tensorflow.serving.PredictRequest")()
    request.model_spec.name = processes.MODEL
    wire.write_tensor(request.inputs[input_name], np.load(picture))
    return request.SerializeToString()


def request_for(address: str, picture: Path) -> bytes:
    """A PredictRequest about a picture, .npy, for the one input of a server's model."""
    with tf_serving.Client(address, model_name=processes.MODEL) as client:
        (name,) = client.metadata().signatures["serving_default"].inputs
    return predict_request(picture, name)
