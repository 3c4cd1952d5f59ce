"""Rows to Parquet, TFRecord or JSON lines, by Beam's own sinks."""

import json
from typing import Any

import apache_beam as beam
import pyarrow as pa

from keras_mobilenet import wire
from serving.batch.answers import Row, as_json

FORMATS = {"parquet": ".parquet", "tfrecord": ".tfrecord", "jsonl": ".jsonl"}
"""What rows are written as, and how the files' names end."""

_ROW_GROUP_BYTES = 1 << 20  # held in memory by each worker; Beam's default is 64 MiB
_IDS, _TEXTS, _SCORES = pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.float32())
_CLASSES = {"class_ids": _IDS, "labels": _TEXTS}
_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "classify": {**_CLASSES, "scores": _SCORES},
    "detect": {**_CLASSES, "scores": _SCORES, "boxes": pa.list_(pa.list_(pa.int32()))},
    "segment": {**_CLASSES, "shares": _SCORES, "mask": pa.binary()},
    "embed": {"embedding": _SCORES},
}


def schema(task: str) -> pa.Schema:
    """The columns of a task's rows.

    Args:
        task: classify (`class_ids`, `labels`, `scores`, best first), detect (these and `boxes`: left, top, right,
            bottom in the picture's pixels), segment (`class_ids`, `labels` and `shares` of the picture, largest first,
            and `mask`, a grey PNG of class numbers in the model's size) or embed (`embedding`).

    Returns:
        `path`, those columns, `model` and `version`.
    """
    ends = {"model": pa.string(), "version": pa.string()}
    return pa.schema({"path": pa.string(), **_COLUMNS[task], **ends}.items())


class WriteRows(beam.PTransform):
    """Writes rows; what comes out are the names of the files.

    They appear under their names when all of them are whole: until then they are in a folder beside them.

    Args:
        prefix: What the files' names begin with.
        form: One of `FORMATS`.
        task: What the rows are of.
        shards: Files; 0 leaves it to the runner, which then keeps no row in memory or in a shuffle.
    """

    def __init__(self, prefix: str, form: str, task: str, shards: int = 0) -> None:
        super().__init__()
        self._prefix, self._form, self._task, self._shards = prefix, form, task, shards

    def expand(self, rows: beam.PCollection[Row]) -> beam.PCollection[str]:
        """Writes with the format's sink."""
        names = {"file_name_suffix": FORMATS[self._form], "num_shards": self._shards}
        if self._form == "parquet":
            return rows | beam.io.WriteToParquet(
                self._prefix, schema(self._task), row_group_buffer_size=_ROW_GROUP_BYTES, codec="zstd", **names
            )
        if self._form == "tfrecord":
            return rows | beam.Map(as_example, self._task) | beam.io.WriteToTFRecord(self._prefix, **names)
        return rows | beam.Map(as_line) | beam.io.WriteToText(self._prefix, **names)


def as_line(row: Row) -> str:
    """A row as a line of JSON; bytes become base64."""
    return json.dumps(as_json(row), ensure_ascii=False)


def as_example(row: Row, task: str) -> bytes:
    """A row as a tf.train.Example; boxes become one list of four numbers each."""
    example = wire.message_class("tensorflow.Example")()
    for column in schema(task):
        value = row[column.name]
        feature = example.features.feature[column.name]
        if pa.types.is_list(column.type) and pa.types.is_list(column.type.value_type):
            value = [number for inner in value for number in inner]
        _fill(feature, value if isinstance(value, list) else [value], _leaf(column.type))
    return example.SerializeToString()


def _leaf(kind: pa.DataType) -> pa.DataType:
    return _leaf(kind.value_type) if pa.types.is_list(kind) else kind


def _fill(feature: Any, values: list[Any], kind: pa.DataType) -> None:
    if pa.types.is_floating(kind):
        feature.float_list.value.extend(values)
    elif pa.types.is_integer(kind):
        feature.int64_list.value.extend(values)
    else:
        feature.bytes_list.value.extend(v if isinstance(v, bytes) else v.encode() for v in values)
