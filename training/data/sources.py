"""One door to all data sets: `load("digits")`, `load("folder", ...)`, `load("tfrecord", ...)`, `load("cifar10")`."""

import os
from collections.abc import Mapping

from training.data.digits import load_digits
from training.data.folder import load_folder
from training.data.pictures import Source, hold_out
from training.data.records import load_tfrecords
from training.data.tfds import load_tfds


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    patterns: Mapping[str, str] | None = None,
    labels_file: str | os.PathLike | None = None,
    label_offset: int = 0,
    validation_share: float = 0.1,
) -> Source:
    """Opens a data set; reads names and positions, no pictures.

    Args:
        name: `digits` (embedded), `folder` (class folders under `data_dir`), `tfrecord` (files under `data_dir`), or
            the name of a tensorflow-datasets data set of labelled pictures (`cifar10`, `imagenette/160px-v2:1.0.0`).
        data_dir: where the pictures are; for tensorflow-datasets its own data folder, `~/tensorflow_datasets` by
            default.
        patterns: only `tfrecord`: file pattern of each split, see `load_tfrecords`.
        labels_file: only `tfrecord`: text file of class names.
        label_offset: only `tfrecord`: label of the first class.
        validation_share: part of the training pictures that becomes the split `validation` where the data set has
            none; 0 for no such split. `test` is never touched.

    Returns:
        The source, its splits named `train`, `validation` and `test` where it has them.

    Raises:
        ValueError: an argument that is missing or does not belong to this kind of data set, or an unknown name.
        FileNotFoundError: the folder or file does not exist.
        ConnectionError: the data set is not prepared under `data_dir` and cannot be downloaded.

    Example:
        >>> from training import data
        >>> {split: part.count for split, part in data.load("digits").splits.items()}
        {'train': 1258, 'validation': 180, 'test': 359}
    """
    if name != "tfrecord" and (patterns or labels_file or label_offset):
        raise ValueError(f"patterns, labels_file and label_offset describe TFRecords; the data set is {name!r}.")
    if name in ("folder", "tfrecord") and data_dir is None:
        raise ValueError(f"The data set {name!r} needs data_dir, the folder that holds the pictures.")
    if name == "digits":
        source = load_digits()
    elif name == "folder":
        source = load_folder(data_dir)
    elif name == "tfrecord":
        if labels_file is None:
            raise ValueError("TFRecords hold numbers, not names: give labels_file, a text file with one class a line.")
        source = load_tfrecords(data_dir, labels_file, patterns, label_offset)
    else:
        source = load_tfds(name, data_dir)
    return hold_out(source, validation_share)
