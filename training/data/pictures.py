"""What a data source is: encoded pictures with random access, grouped into splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import tensorflow as tf


class Pictures(Protocol):
    """Encoded pictures with their labels, each of which can be read by its number, from any thread."""

    def __len__(self) -> int:
        """How many pictures there are."""

    def read(self, number: int) -> tuple[bytes, Any]:
        """The encoded picture and its label: the number of its class, or whatever a task learns from."""

    def where(self, number: int) -> str:
        """Where a person finds the picture: a path, or a file and a record number."""

    def fingerprint(self) -> str:
        """Changes when the stored pictures change."""


@dataclass(frozen=True)
class Memory:
    """Encoded pictures held in memory."""

    name: str
    encoded: Sequence[bytes] = field(repr=False)
    labels: Sequence[Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, number: int) -> tuple[bytes, Any]:
        """The encoded picture and its label."""
        return self.encoded[number], self.labels[number]

    def where(self, number: int) -> str:
        """The name of the set and the picture's number."""
        return f"{self.name}, picture {number}"

    def fingerprint(self) -> str:
        """Name and number of pictures."""
        return f"{self.name} {len(self)}"


@dataclass(frozen=True)
class Decoded:
    """Decoded pictures in memory, each at its own size, one behind the other in a single uint8 vector."""

    values: tf.Tensor = field(repr=False)
    offsets: tf.Tensor = field(repr=False)
    shapes: tf.Tensor = field(repr=False)
    labels: tf.Tensor = field(repr=False)
    common_shape: tuple[int, int, int] | None
    """The shape of all pictures where they share one."""


@dataclass(frozen=True)
class Split:
    """A part of a source, such as its training pictures.

    Attributes:
        name: `train`, `validation`, `test`.
        class_names: one name per label.
        pictures: where they are read from.
        numbers: which of `pictures` belong to the split, in their order; int64 [count].
        decoded: the split's pictures, decoded and in memory (see `verify`), or None.
    """

    name: str
    class_names: tuple[str, ...]
    pictures: Pictures
    numbers: np.ndarray = field(repr=False)
    decoded: Decoded | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.numbers)

    def read(self, index: int) -> tuple[bytes, Any]:
        """The encoded picture and the label at a position of the split, 0 <= index < count."""
        return self.pictures.read(int(self.numbers[index]))

    def where(self, index: int) -> str:
        """Where a person finds the picture."""
        return self.pictures.where(int(self.numbers[index]))

    def fault(self, label: Any) -> str | None:
        """What is wrong with a label; only a class's number is looked at."""
        if isinstance(label, int) and not 0 <= label < len(self.class_names):
            return f"label {label}, and there are {len(self.class_names)} class names"
        return None

    def select(self, indices: np.ndarray, name: str | None = None) -> "Split":
        """The split that holds only some pictures.

        Args:
            indices: positions in this split, int [n]; their order is kept.
            name: of the new split; this one's by default.
        """
        return replace(self, name=name or self.name, numbers=self.numbers[indices], decoded=None)


@dataclass(frozen=True)
class Source:
    """A data set: its classes and its splits."""

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}; it has {', '.join(sorted(self.splits))}.")
        return self.splits[split]


def whole(name: str, class_names: Sequence[str], pictures: Pictures) -> Split:
    """A split of all pictures, in their order."""
    return Split(name, tuple(class_names), pictures, np.arange(len(pictures)))


def hold_out(source: Source, share: float, name: str = "validation", taken_from: str = "train") -> Source:
    """Cuts a held-out split from another one, the same one in every run.

    Args:
        source: the data set; returned as it is where it has a split `name` already, or `share` is 0.
        share: part of the pictures to hold out, 0 <= share < 1.
        name: of the new split.
        taken_from: the split that gives up the pictures.

    Returns:
        The source with both splits; no picture is in both.

    Example:
        >>> from training import data
        >>> source = data.hold_out(data.load("digits"), 0.1, name="tuning")
        >>> source["train"].count, source["tuning"].count
        (1132, 126)
    """
    if not 0 <= share < 1:
        raise ValueError(f"The held-out share is {share}; it has to be at least 0 and below 1.")
    if share == 0 or name in source.splits or taken_from not in source.splits:
        return source
    split = source[taken_from]
    order = np.random.default_rng(0).permutation(split.count)
    size = round(split.count * share)
    if not 0 < size < split.count:
        raise ValueError(
            f"{source.name} has {split.count} pictures in {taken_from!r}: a share of {share} for {name!r} leaves one "
            "of the two empty. Give more pictures, another share, or 0 for no held-out split."
        )
    kept, held = np.sort(order[size:]), np.sort(order[:size])
    return replace(source, splits={**source.splits, taken_from: split.select(kept), name: split.select(held, name)})
