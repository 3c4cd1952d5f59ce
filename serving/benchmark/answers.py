"""What the benchmark's two models answer to its picture, to tell right answers from wrong ones during swaps."""

import dataclasses
from pathlib import Path
from typing import Self

import numpy as np

from keras_mobilenet import wire

OUTPUT = "probabilities"
_TOLERANCE = 1e-2  # Relative; batches of different sizes round differently.


@dataclasses.dataclass(frozen=True)
class Expected:
    """The probabilities that even and odd versions answer.

    Args:
        by_remainder: float32 [2, classes].
    """

    by_remainder: np.ndarray

    @classmethod
    def load(cls, file: Path) -> Self:
        """Reads what `save` wrote."""
        return cls(np.load(file))

    def save(self, file: Path) -> None:
        """Writes them to a .npy file."""
        np.save(file, self.by_remainder)

    def matches(self, answer: bytes) -> bool:
        """Says whether a serialized PredictResponse has the answer of the version that it names."""
        response = wire.message_class("tensorflow.serving.PredictResponse").FromString(answer)
        given = wire.to_array(response.outputs[OUTPUT])[0]
        expected = self.by_remainder[response.model_spec.version.value % 2]
        return given.shape == expected.shape and np.allclose(given, expected, rtol=_TOLERANCE, atol=0)
