"""Where the pictures come from: files by pattern, TFRecord files, or a CSV of paths."""

import csv
import dataclasses
import io
import zlib
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io import fileio, tfrecordio
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms import window
from apache_beam.utils.windowed_value import WindowedValue
from google.protobuf.message import DecodeError

from keras_mobilenet import wire
from serving.batch.pictures import BadPicture, Encoded

FORMATS = ("pictures", "tfrecords", "csv")
_BUCKETS = 1024  # keys of the shuffle
_MOST_TOGETHER, _SAME_SIZE = 128, 128
_FEATURE = "image/encoded"


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is read.

    Args:
        patterns: Files, with `*`, `?`, `[...]` and, for folders at any depth, `**`.
        format: One of `FORMATS`.
        column: Of a CSV file, the column with the paths.
    """

    patterns: tuple[str, ...]
    format: str
    column: str = "path"


def guess_format(patterns: tuple[str, ...]) -> str:
    """Tells the format by the names.

    Raises:
        ValueError: There is no pattern, or they are of several formats.
    """
    if not patterns:
        raise ValueError("--input is missing: name files, such as --input='pictures/**.jpg'")
    found = {_format_of(pattern) for pattern in patterns}
    if len(found) > 1:
        raise ValueError(f"--input names {' and '.join(sorted(found))}: run one job for each, or say --input_format")
    return found.pop()


def _format_of(pattern: str) -> str:
    name = pattern.rpartition("/")[2].lower()
    return "csv" if name.endswith(".csv") else "tfrecords" if ".tfrecord" in name else "pictures"


def check(inputs: Inputs, count: bool) -> int | None:
    """Looks whether there is something to read.

    Args:
        inputs: What is read.
        count: Count the pictures, for which all names are listed; else one of each pattern is looked for.

    Returns:
        The number of pictures; None where it isn't counted, or could only be by reading everything.

    Raises:
        ValueError: A pattern fits no file, or a CSV file has no such column.
    """
    limits = None if count else [1] * len(inputs.patterns)
    try:
        found = FileSystems.match(list(inputs.patterns), limits)
    except BeamIOError as error:
        raise ValueError(f"--input cannot be listed: {error}") from error
    for pattern, result in zip(inputs.patterns, found, strict=True):
        if not result.metadata_list:
            raise ValueError(f"--input={pattern} fits no file: look at it with ls; folders at any depth are **")
    files = {metadata.path for result in found for metadata in result.metadata_list}
    if inputs.format == "csv":
        for file in sorted(files):
            _column(file, inputs.column)
    return len(files) if count and inputs.format == "pictures" else None


class ReadPaths(beam.PTransform):
    """The paths of the pictures, spread over the workers. Only names are shuffled, never pictures."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = inputs

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[str]:
        """Lists the files; those of a CSV are read from it."""
        files = (
            begin
            | beam.Create(self._inputs.patterns)
            | fileio.MatchAll()
            | "Path" >> beam.Map(lambda metadata: metadata.path).with_output_types(str)
        )
        if len(self._inputs.patterns) > 1:
            files |= beam.Distinct()  # a file that two patterns fit has one row
        if self._inputs.format == "csv":
            files |= "Rows" >> beam.FlatMap(_listed, self._inputs.column).with_output_types(str)
        packed = files | "Pack" >> beam.ParDo(_Pack()).with_output_types(bytes)
        return packed | "Spread" >> beam.Reshuffle(_BUCKETS) | "Unpack" >> beam.FlatMap(_unpack).with_output_types(str)


class _Pack(beam.DoFn):
    """Several paths in one element, compressed: the DirectRunner holds a whole shuffle in memory, several times.

    The first go alone, so that a few pictures too are spread over the workers; then they are two and two, and so on.
    """

    def start_bundle(self) -> None:
        self._paths: list[str] = []
        self._packs = 0

    def process(self, path: str) -> Iterator[bytes]:
        self._paths.append(path)
        if len(self._paths) >= min(1 + self._packs // _SAME_SIZE, _MOST_TOGETHER):
            yield self._pack()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._paths:
            yield window.GlobalWindows.windowed_value(self._pack())

    def _pack(self) -> bytes:
        text = "\0".join(self._paths)  # the one character that no path has
        self._paths, self._packs = [], self._packs + 1
        return zlib.compress(text.encode())


def _unpack(packed: bytes) -> list[str]:
    return zlib.decompress(packed).decode().split("\0")


def records(path: str) -> Iterator[Encoded]:
    """Reads a TFRecord file; its pictures are called `PATH#NUMBER`, with numbers from 0 on.

    Beam's own transform does not tell which record of a file it gives, and such files cannot be split anyway.
    """
    with FileSystems.open(path) as file:
        number = 0
        while (record := tfrecordio._TFRecordUtil.read_record(file)) is not None:
            yield Encoded(f"{path}#{number}", record)
            number += 1


def picture_of(record: Encoded) -> Encoded:
    """Takes the encoded picture out of a tf.train.Example.

    Raises:
        BadPicture: There is none.
    """
    example = wire.message_class("tensorflow.Example")()
    try:
        example.ParseFromString(record.contents)
    except DecodeError as error:
        raise BadPicture(f"the record is no tf.train.Example: {error}") from error
    values = example.features.feature[_FEATURE].bytes_list.value
    if len(values) != 1:
        raise BadPicture(f"the record has {len(values)} values under {_FEATURE!r}, not one")
    return Encoded(record.path, values[0])


def _listed(file: str, column: str) -> Iterator[str]:
    index = _column(file, column)
    with io.TextIOWrapper(_open(file), encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        next(rows)
        for row in rows:
            if row:
                yield row[index] if index < len(row) else ""


def _column(file: str, column: str) -> int:
    with io.TextIOWrapper(_open(file), encoding="utf-8", newline="") as text:
        header = next(csv.reader(text), [])
    if column not in header:
        raise ValueError(f"{file} has no column {column!r}: its first line is {header}; name one by --column")
    return header.index(column)


def _open(file: str) -> io.BufferedIOBase:
    return FileSystems.open(file, compression_type=CompressionTypes.AUTO)
