"""Labelled pictures of tensorflow-datasets, read at random from the files that it prepared."""

import difflib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import tensorflow as tf
from absl import logging

from training.data.pictures import Source, whole
from training.data.records import Records, file_stamp, open_records


@dataclass(frozen=True)
class ArrayRecords:
    """Pictures that are tf.train.Example messages in ArrayRecord files, which carry their own index."""

    files: tuple[str, ...]
    examples: Sequence[bytes] = field(repr=False)
    image_key: str
    label_key: str

    def __len__(self) -> int:
        return len(self.examples)

    def features(self, number: int) -> Mapping[str, tf.train.Feature]:
        """All features of a record."""
        return tf.train.Example.FromString(self.examples[number]).features.feature

    def read(self, number: int) -> tuple[bytes, int]:
        """The encoded picture and its label."""
        features = self.features(number)
        return features[self.image_key].bytes_list.value[0], features[self.label_key].int64_list.value[0]

    def where(self, number: int) -> str:
        """Folder of the files and number of the record among all of them."""
        return f"{os.path.dirname(self.files[0])}, record {number}"

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return "\n".join(file_stamp(path) for path in self.files)


def load_tfds(name: str, data_dir: str | os.PathLike | None = None) -> Source:
    """A data set of labelled pictures from tensorflow-datasets, downloaded and prepared where that has not been done.

    Args:
        name: as tensorflow-datasets writes it, with configuration and version where wanted:
            `imagenette/160px-v2:1.0.0`.
        data_dir: folder of prepared data sets; `~/tensorflow_datasets` by default.

    Returns:
        The source, with the data set's own splits.

    Raises:
        ValueError: no such data set, or one without one picture and one label to an example.
        ConnectionError: it is not prepared under `data_dir`, and could not be downloaded and prepared.
    """
    tfds = installed()
    builder = open_builder(tfds, name, data_dir)
    image, label = _keys(tfds, builder)
    names = tuple(builder.info.features[label].names)
    prepare(builder)
    splits = {split: whole(split, names, examples(builder, split, image, label)) for split in builder.info.splits}
    return Source(builder.info.full_name, names, splits)


def installed() -> ModuleType:
    """tensorflow-datasets."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError("Data sets by name come from tensorflow-datasets: pip install tensorflow-datasets") from error
    return tfds


def open_builder(tfds: ModuleType, name: str, data_dir: str | os.PathLike | None) -> Any:
    """The builder of a data set by its name; ValueError names the nearest where there is none."""
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name.split("/")[0].split(":")[0], tfds.list_builders(), 5, 0.5)
        raise ValueError(
            f"There is no data set {name!r}. Allowed are digits, folder, tfrecord, and the names of tensorflow-datasets"
            + (f", nearest: {', '.join(near)}." if near else " (https://www.tensorflow.org/datasets/catalog).")
        ) from error


def _keys(tfds: ModuleType, builder: Any) -> tuple[str, str]:
    """Names of the one picture and the one label of an example."""
    features = dict(builder.info.features.items())
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]
    if supervised := builder.info.supervised_keys:
        images = [key for key in images if key in supervised] or images
        labels = [key for key in labels if key in supervised] or labels
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"{builder.info.full_name} is no data set of labelled pictures: an example has the features "
            f"{sorted(features)}, where one Image and one ClassLabel are needed."
        )
    return images[0], labels[0]


def prepare(builder: Any) -> None:
    """Downloads and prepares a data set where that has not been done; ConnectionError says what to do else."""
    try:
        if not builder.is_prepared():
            logging.info("%s: downloading and preparing under %s", builder.info.full_name, builder.data_dir)
            _reach(builder)
        builder.download_and_prepare()
    except Exception as error:  # tensorflow-datasets raises whatever its downloader and its generators raise
        raise ConnectionError(
            f"{builder.info.full_name} is not prepared under {str(builder.data_dir)!r}, and downloading and preparing "
            f"it failed: {type(error).__name__}: {str(error)[:1000]}\n"
            f"Ways on: prepare it on a machine with a network (tfds build {builder.name}) and copy its folder to the "
            "same place under data_dir; or use a folder of pictures (folder), TFRecords (tfrecord) or digits."
        ) from error


def _reach(builder: Any) -> None:
    """Fails at once where none of the data set's hosts answers; the downloader itself tries for three minutes."""
    urls = [urlparse(url) for url in builder.url_infos or ()]
    hosts = {(url.hostname, url.port or (80 if url.scheme == "http" else 443)) for url in urls if url.hostname}
    failures = []
    for host in sorted(hosts):
        try:
            socket.create_connection(host, timeout=10).close()
            return
        except OSError as error:
            failures.append(f"{host[0]}: {error}")
    if failures and not getproxies():
        raise OSError("; ".join(failures))


def examples(builder: Any, split: str, image: str, label: str) -> Records | ArrayRecords:
    """The prepared examples of a split; `image` and `label` are the keys of the picture and its label."""
    files = tuple(str(path) for path in builder.info.splits[split].filepaths)
    file_format = builder.info.file_format.value
    if file_format == "tfrecord":
        return open_records(files, image_key=image, label_key=label)
    if file_format == "array_record":
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        return ArrayRecords(files, ArrayRecordDataSource(files), image, label)
    raise ValueError(
        f"{builder.info.full_name} is prepared as {file_format}, which is not read here. Prepare it as tfrecord or "
        f"array_record: tfds build {builder.name} --file_format=tfrecord"
    )
