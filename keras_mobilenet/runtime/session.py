"""What every kind of model offers to `Predictor`."""

import abc
import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_mobilenet.tflite_file import Quantization


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output.

    Attributes:
        name: its name.
        shape: its shape, None for a size that is free; None for a free rank.
        dtype: NumPy's name of its dtype; `object` for strings.
        quantization: how stored integers stand for real values, or None.
        index: the tensor's number in a .tflite file.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    quantization: Quantization | None = None
    index: int | None = None

    @property
    def batch(self) -> int | None:
        """The fixed size of the first dimension, or None where it is free."""
        return self.shape[0] if self.shape else None


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds that one call took: copying inputs in, computing, copying outputs out."""

    set: float
    invoke: float
    get: float

    @property
    def total(self) -> float:
        """All three."""
        return self.set + self.invoke + self.get


class Session(abc.ABC):
    """One instance of a loaded model; used by one thread at a time."""

    @abc.abstractmethod
    def set(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Copies the inputs in, in the dtypes of the specs."""

    @abc.abstractmethod
    def invoke(self) -> None:
        """Computes."""

    @abc.abstractmethod
    def get(self) -> dict[str, np.ndarray]:
        """Copies the outputs out, in the dtypes of the specs."""


class Backend(abc.ABC):
    """A loaded model.

    Attributes:
        inputs: the inputs by name, in order.
        outputs: the outputs by name, in order.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    @abc.abstractmethod
    def session(self) -> Session:
        """Makes a further instance."""
