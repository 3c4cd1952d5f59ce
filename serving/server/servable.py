"""The seam between the engine and whatever runs a model: a backend loads a directory into a servable."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

DEFAULT_SIGNATURE = "serving_default"


class Servable(Protocol):
    """A loaded version of a model. `run` is called from many threads at once."""

    @property
    def signatures(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """The signatures by key, with inputs' and outputs' names, dtypes and shapes."""

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None
    ) -> list[np.ndarray]:
        """Runs one signature.

        Args:
            signature: A key of `signatures`.
            inputs: Every input of the signature by name; names, dtypes and shapes have been checked against it.
            outputs: Names of the wanted outputs.
            timeout: Seconds after which to give up with DEADLINE_EXCEEDED, None for no limit.

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
