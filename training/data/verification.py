"""Finds the pictures that cannot be decoded before training starts, so that no step depends on chance."""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from keras_mobilenet import preprocessing
from training.data.decode import any_format
from training.data.pictures import Decoded, Split

LISTED = 50
"""How many bad pictures an error message names."""


@dataclass(frozen=True)
class BadPicture:
    """A picture that is left out, and why."""

    index: int
    name: str
    reason: str


class BadPicturesError(ValueError):
    """More pictures are bad than was allowed; `bad` lists them all."""

    def __init__(self, split: Split, bad: tuple[BadPicture, ...], max_bad_share: float) -> None:
        self.bad = bad
        lines = [f"  {picture.name}: {picture.reason}" for picture in bad[:LISTED]]
        if len(bad) > LISTED:
            lines.append(f"  and {len(bad) - LISTED} more")
        super().__init__(
            f"{len(bad)} of the {split.count} pictures of {split.name!r} are bad ({len(bad) / split.count:.1%}), and "
            f"max_bad_share={max_bad_share:g} allows {max_bad_share:.1%}. Repair or delete them, or allow a larger "
            "share:\n" + "\n".join(lines)
        )


def verify(
    split: Split,
    max_bad_share: float = 0.01,
    *,
    cache: bool = False,
    cache_limit: int = 4 << 30,
    record: str | os.PathLike | None = None,
) -> tuple[Split, tuple[BadPicture, ...]]:
    """Decodes every picture once, names the bad ones and leaves them out.

    Bad is what `keras_mobilenet.decode_image` refuses, what cannot be read, and a label without a class name.

    Args:
        split: the pictures.
        max_bad_share: largest share of bad pictures to go on with, 0 to 1.
        cache: keep the decoded pictures in memory (uint8, at their own size), for training without decoding.
        cache_limit: bytes that the kept pictures may take.
        record: JSON file that keeps the finding. Where it holds one for the same pictures, that is taken and nothing
            is decoded.

    Returns:
        The split without its bad pictures, and these.

    Raises:
        BadPicturesError: more than `max_bad_share` of the pictures are bad.
        MemoryError: the decoded pictures take more than `cache_limit`.

    Example:
        >>> from training import data
        >>> train, bad = data.verify(data.load("digits")["train"], cache=True)
        >>> train.count, len(bad)
        (1258, 0)
    """
    if not 0 <= max_bad_share <= 1:
        raise ValueError(f"max_bad_share is {max_bad_share}; it is a share of the pictures, 0 to 1.")
    known = _read_record(record, split)
    bad, decoded = known or (), None
    if known is None or cache:
        good = np.setdiff1d(np.arange(split.count), [picture.index for picture in bad])
        found, decoded = _decode_all(split, good, cache_limit if cache else None)
        bad += tuple(_why(split, int(index)) for index in np.setdiff1d(good, found))
        _write_record(record, split, bad)
    for picture in bad:
        logging.warning("left out: %s: %s", picture.name, picture.reason)
    if len(bad) > max_bad_share * split.count or len(bad) == split.count:
        raise BadPicturesError(split, bad, max_bad_share)
    checked = split.select(np.setdiff1d(np.arange(split.count), [picture.index for picture in bad])) if bad else split
    return replace(checked, decoded=decoded), bad


def _decode_all(split: Split, indices: np.ndarray, limit: int | None) -> tuple[np.ndarray, Decoded | None]:
    """Indices of the pictures that decode and have a class; the pictures themselves where `limit` is a number."""

    def decode(index: tf.Tensor, contents: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        picture = any_format()(contents)
        kept = tf.size(picture) * int(limit is not None)
        return index, label, tf.ensure_shape(tf.shape(picture), [3]), tf.reshape(picture, [-1])[:kept]

    dataset = tf.data.Dataset.from_tensor_slices(indices.astype(np.int64)).batch(64)
    dataset = dataset.map(lambda batch: (batch, *_read_or_empty(split, batch))).unbatch()
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    found, used = [], 0
    for index, label, shape, values in dataset.ragged_batch(64).prefetch(tf.data.AUTOTUNE):
        values = values.flat_values.numpy()
        found.append((index.numpy(), label.numpy(), shape.numpy().astype(np.int64), values))
        used += values.nbytes
        if limit is not None and used > limit:
            need = used / sum(len(part[0]) for part in found) * split.count
            raise MemoryError(
                f"The decoded pictures of {split.name!r} take about {need / 2**30:.1f} GiB, and cache_limit is "
                f"{limit / 2**30:.1f} GiB. Train without cache, or allow more."
            )
    if not found:
        return np.zeros(0, np.int64), None
    index, label, shape, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return index, None if limit is None else _in_memory(values, shape, label)


def _read_or_empty(split: Split, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoded pictures and classes; nothing, which does not decode, for what cannot be read or has no such class."""

    def read(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        contents, labels = np.full(len(indices), b"", object), np.zeros(len(indices), np.int64)
        for row, index in enumerate(indices):
            with contextlib.suppress(Exception):  # a picture is a bad one, whatever stands in the way
                encoded, label = split.read(index)
                if split.fault(label) is None:
                    contents[row], labels[row] = encoded, label if isinstance(label, int) else 0
        return contents, labels

    contents, labels = tf.numpy_function(read, [batch], (tf.string, tf.int64), stateful=False)
    return tf.ensure_shape(contents, [None]), tf.ensure_shape(labels, [None])


def _in_memory(values: np.ndarray, shapes: np.ndarray, labels: np.ndarray) -> Decoded:
    offsets = np.concatenate([[0], np.cumsum(shapes.prod(1))])
    common_shape = tuple(shapes[0].tolist()) if (shapes == shapes[0]).all() else None
    with tf.device("/CPU:0"):
        return Decoded(
            tf.constant(values), tf.constant(offsets), tf.constant(shapes), tf.constant(labels), common_shape
        )


def _why(split: Split, index: int) -> BadPicture:
    """Tries a bad picture once more, for the reason."""
    try:
        contents, label = split.read(index)
        if fault := split.fault(label):
            raise ValueError(fault)
        if not contents:
            raise ValueError("empty file")
        preprocessing.decode_image(tf.constant(contents))
        reason = "could not be decoded"
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0].split("}} ")[-1].split(" [Op:")[0]
    except Exception as error:  # the reason is wanted, whatever it is
        reason = str(error).splitlines()[0]
    return BadPicture(index, split.where(index), reason)


def _fingerprint(split: Split) -> str:
    parts = (split.pictures.fingerprint().encode(), split.numbers.tobytes(), "\n".join(split.class_names).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _read_record(record: str | os.PathLike | None, split: Split) -> tuple[BadPicture, ...] | None:
    if record is None or not Path(record).is_file():
        return None
    try:
        stored = json.loads(Path(record).read_text("utf-8"))
        if stored["fingerprint"] == _fingerprint(split):
            return tuple(BadPicture(**picture) for picture in stored["bad"])
    except (ValueError, KeyError, TypeError):
        logging.warning("%s is no record of checked pictures; they are checked again", record)
    return None


def _write_record(record: str | os.PathLike | None, split: Split, bad: tuple[BadPicture, ...]) -> None:
    if record is None:
        return
    path = Path(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    content = {"fingerprint": _fingerprint(split), "pictures": split.count, "bad": [vars(picture) for picture in bad]}
    fresh.write_text(json.dumps(content, indent=1), "utf-8")
    fresh.replace(path)  # whole or not at all, also where the program is killed here
