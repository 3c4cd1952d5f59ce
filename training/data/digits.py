"""The embedded data set: scikit-learn's 1,797 scanned digits (UCI, Alpaydin and Kaynak 1998)."""

import numpy as np
import tensorflow as tf

from training.data.pictures import Memory, Source, Split

SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Share of the pictures of each class."""


def load_digits() -> Source:
    """The scanned digits, 8 x 8 grey pictures with values 0 to 16, as PNG files in memory with values 0 to 255.

    The three splits are the same in every run and hold the ten classes in equal shares. `test` is for the last figure
    only; tune on `validation`.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError("The embedded digits come with scikit-learn: pip install scikit-learn") from error
    scans, labels = datasets.load_digits(return_X_y=True)
    grey = np.round(scans.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    encoded = [tf.io.encode_png(picture).numpy() for picture in grey]
    names = tuple(str(digit) for digit in range(10))
    pictures = Memory("scikit-learn digits", encoded, labels.tolist())
    parts = _parts(labels)
    return Source("digits", names, {name: Split(name, names, pictures, part) for name, part in parts.items()})


def _parts(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of each split's pictures, drawn class by class from a fixed seed."""
    generator = np.random.default_rng(0)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    ends = np.cumsum(list(SPLITS.values()))[:-1]
    for digit in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == digit))
        pieces = np.split(members, np.round(ends * len(members)).astype(int))
        for name, piece in zip(SPLITS, pieces, strict=True):
            parts[name].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}
