"""Pictures in TFRecord files, read in any order: a scan of the record headers notes where each one begins."""

import glob
import os
import re
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from training.data.pictures import Source, whole

HEADER, FOOTER = 12, 4
"""Bytes around a record's data: its length (uint64) and the length's checksum; the data's checksum."""

DEFAULT_PATTERNS = {"train": "*train*.tfrecord*", "validation": "*val*.tfrecord*", "test": "*test*.tfrecord*"}


@dataclass(frozen=True)
class Records:
    """Pictures that are tf.train.Example messages in TFRecord files.

    Attributes:
        files: paths.
        spans: int64 [count, 3], a record's file, its first byte and its length.
        image_key: feature with the encoded picture.
        label_key: feature with the label, one int64.
        label_offset: taken off the stored label.
    """

    files: tuple[str, ...]
    spans: np.ndarray = field(repr=False)
    image_key: str = "image/encoded"
    label_key: str = "image/class/label"
    label_offset: int = 0

    def __len__(self) -> int:
        return len(self.spans)

    def features(self, number: int) -> Mapping[str, tf.train.Feature]:
        """All features of a record."""
        file, start, length = (int(value) for value in self.spans[number])
        with open(self.files[file], "rb", buffering=0) as stream:
            stream.seek(start)
            return tf.train.Example.FromString(stream.read(length)).features.feature

    def read(self, number: int) -> tuple[bytes, int]:
        """The encoded picture and its label."""
        features = self.features(number)
        for key, kind in ((self.image_key, "bytes_list"), (self.label_key, "int64_list")):
            if len(getattr(features[key], kind).value) != 1:
                raise ValueError(
                    f"{self.where(number)} has no single {kind.removesuffix('_list')} value under {key!r}; it has "
                    f"{sorted(key for key, value in features.items() if value.WhichOneof('kind'))}."
                )
        label = features[self.label_key].int64_list.value[0] - self.label_offset
        return features[self.image_key].bytes_list.value[0], label

    def where(self, number: int) -> str:
        """File and number of the record within it."""
        file = int(self.spans[number, 0])
        first = int(np.searchsorted(self.spans[:, 0], file))
        return f"{self.files[file]}, record {number - first}"

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return "\n".join(file_stamp(path) for path in self.files)


def file_stamp(path: str) -> str:
    """Name, size and time of change of a file; of a missing one, that it is missing."""
    if not os.path.exists(path):
        return f"{path} missing"
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def scan(path: str) -> np.ndarray:
    """First byte and length of every record of an uncompressed TFRecord file.

    Args:
        path: a local file.

    Returns:
        int64 [records, 2].

    Raises:
        ValueError: the file is compressed, cut short or no TFRecord file.
    """
    size = os.path.getsize(path)
    if size == 0:
        return np.zeros((0, 2), np.int64)
    headers = np.memmap(path, np.uint8, "r")
    if bytes(headers[:2]) == b"\x1f\x8b":
        raise ValueError(f"{path} is compressed with gzip; records are read at random, so unpack it first (gunzip).")
    spans, start = [], 0
    while start < size:
        length = struct.unpack_from("<Q", headers, start)[0] if start + HEADER <= size else size
        if start + HEADER + length + FOOTER > size:
            raise ValueError(
                f"{path} ends inside record {len(spans)} (byte {start} of {size}): it was cut short in copying, or is "
                "no TFRecord file. Copy it again, or leave it out of the file pattern."
            )
        spans.append((start + HEADER, length))
        start += HEADER + length + FOOTER
    return np.array(spans, np.int64)


def open_records(files: Sequence[str], **keys: str | int) -> Records:
    """Scans TFRecord files, some at a time, and gives random access to their records in the order of the files."""
    with ThreadPoolExecutor(8) as pool:
        scans = list(pool.map(scan, files))
    spans = [np.insert(span, 0, number, axis=1) for number, span in enumerate(scans)]
    return Records(tuple(files), np.concatenate(spans), **keys)


def load_tfrecords(
    data_dir: str | os.PathLike,
    labels_file: str | os.PathLike,
    patterns: Mapping[str, str] | None = None,
    label_offset: int = 0,
) -> Source:
    """TFRecord files with `image/encoded` (JPEG, PNG, BMP or GIF) and `image/class/label` (int64).

    Args:
        data_dir: folder of the files, local or mounted.
        labels_file: class names, one a line (see `read_class_names`); relative to `data_dir` or to here.
        patterns: file pattern of each split, relative to `data_dir`; `DEFAULT_PATTERNS` where not given, of which
            `train` or at least one other has to find files.
        label_offset: label of the first class; 1 for files whose label 0 is a background class without pictures.

    Returns:
        The source; the pictures stand in the order of the files' names and records.

    Raises:
        ValueError: no file fits a pattern, or a file is no whole TFRecord file.
        FileNotFoundError: the folder or the labels file does not exist.
    """
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder of TFRecord files {str(folder)!r} does not exist.")
    names = read_class_names(labels_file if Path(labels_file).is_file() else folder / labels_file)
    found = {
        split: sorted(glob.glob(str(folder / pattern))) for split, pattern in (patterns or DEFAULT_PATTERNS).items()
    }
    missing = [split for split, files in found.items() if not files]
    if len(missing) == len(found) or (patterns and missing):
        tried = ", ".join(f"{split}: {(patterns or DEFAULT_PATTERNS)[split]!r}" for split in missing)
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise ValueError(f"No file in {folder} fits the patterns {tried}. The folder holds: {there}.")
    return Source(
        folder.name,
        names,
        {
            split: whole(split, names, open_records(files, label_offset=label_offset))
            for split, files in found.items()
            if files
        },
    )


def read_class_names(path: str | os.PathLike) -> tuple[str, ...]:
    """Class names from a text file, one a line; the first line is label 0.

    Where every line opens with its own number, that number is dropped; of a line `number wnid ...` the WordNet id is
    the name.

    Args:
        path: the text file, UTF-8.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"The labels file {str(path)!r} does not exist. It is a text file with one class name a line, in the order "
            "of the labels."
        )
    lines = [line.strip() for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    split = [re.match(r"(\d+)[\s:,]+(n\d{8}(?=\s|$)|.*)", line) for line in lines]
    if all(match and int(match[1]) == number for number, match in enumerate(split)):
        lines = [match[2].strip() for match in split]
    if len(set(lines)) != len(lines):
        repeated = sorted({line for line in lines if lines.count(line) > 1})
        raise ValueError(f"{path} names some classes twice: {', '.join(repeated)}. Each line has to be one class.")
    return tuple(lines)
