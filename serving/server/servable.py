"""The seam between the engine and whatever runs a model: a backend loads a directory into a servable."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import status

DEFAULT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class Call:
    """How long a request's client waits.

    Args:
        deadline: When the client gives up (monotonic seconds), None for never.
        cancelled: Says whether the client has gone.
    """

    deadline: float | None = None
    cancelled: Callable[[], bool] = lambda: False

    def remaining(self) -> float | None:
        """Returns the seconds left, None without a deadline.

        Raises:
            ServingError: DEADLINE_EXCEEDED when none are left, CANCELLED when the client has gone.
        """
        if self.cancelled():
            raise status.ServingError(status.grpc.StatusCode.CANCELLED, "The client cancelled the request")
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise status.deadline_exceeded()
        return left


class Servable(Protocol):
    """A loaded version of a model. `run` is called from many threads at once."""

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signatures by key, with inputs' and outputs' names, dtypes and shapes."""

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], call: Call
    ) -> list[np.ndarray]:
        """Runs one signature.

        Args:
            signature: A key of `signatures`.
            inputs: Every input of the signature by name; names, dtypes and shapes have been checked against it.
            outputs: Names of the wanted outputs.
            call: `call.remaining()` is the run's timeout; asking for it raises when there is no use in running.

        Returns:
            One array for each wanted output, in their order.

        Raises:
            tf.errors.OpError: With its own code, which the client gets.
            ServingError: With the code for the client.
        """

    def close(self) -> None:
        """Frees what was loaded; called once, when no request uses it any more."""


class Backend(Protocol):
    """Loads version directories of one kind."""

    name: str

    def accepts(self, path: Path) -> bool:
        """Says whether this version directory holds a file that this backend runs."""

    def load(self, path: Path) -> Servable:
        """Loads a version directory; any exception fails the version and is retried as the flags say."""
