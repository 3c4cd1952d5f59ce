"""The preparation as a Beam pipeline.

    names -> digest of each file -> by digest: duplicates out -> by parts: in the digests' order -> shrink -> TFRecords

Files are read twice, so that no shuffle carries a picture: those carry names and digests. The digests' order is as good
as chance. Each part is a sample of all pictures, so that it does not matter in which order a worker takes its parts.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.metrics import Metrics

from training.prepare_data import listing, pictures
from training.prepare_data.listing import SPLITS, Entry, Shares
from training.prepare_data.pictures import BadPicture

NAMESPACE = "training.prepare_data"
DUPLICATES, UNREADABLE = "duplicates", "unreadable"
_PART = 500  # pictures that are put in order in one place
_DIGITS = 8


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is prepared.

    Args:
        listing: File that `listing.write` wrote.
        pictures: How many are in it.
        output: Folder for the records.
        class_names: Name of each class.
        shares: How pictures are divided where the folder does not do it.
        short_side: Of the stored pictures, in pixels.
        quality: Of their JPEG, 1 to 100.
        shards: Files of a split; 0 leaves it to the runner.
    """

    listing: Path
    pictures: int
    output: Path
    class_names: tuple[str, ...]
    shares: Shares
    short_side: int
    quality: int
    shards: int = 0


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Puts the steps into a pipeline."""
    digested, unread = (
        pipeline
        | "List" >> beam.io.ReadFromText(str(plan.listing))
        | "Spread" >> beam.Reshuffle(1024)
        | "Digest" >> beam.Map(_digest).with_exception_handling(exc_class=BadPicture)
    )
    chosen = digested | beam.GroupByKey() | "Choose" >> beam.FlatMap(_choose).with_outputs(DUPLICATES, main="kept")
    examples, unstored = (
        chosen.kept
        | "Part" >> beam.Map(_with_part, max(plan.pictures // _PART, 2))
        | "Parts" >> beam.GroupByKey()
        | "Order" >> beam.FlatMap(lambda part: sorted(part[1], key=lambda kept: kept[0]))
        | "Store" >> beam.Map(_store, plan).with_exception_handling(exc_class=BadPicture)
    )
    by_split = examples | "Split" >> beam.Partition(lambda one, _: SPLITS.index(one[0]), len(SPLITS))
    for name, part in zip(SPLITS, by_split, strict=True):
        sink = beam.io.WriteToTFRecord(str(plan.output / name), file_name_suffix=".tfrecord", num_shards=plan.shards)
        _ = part | f"Value_{name}" >> beam.Values() | f"Write_{name}" >> sink
    unreadable = [unread | "Unread" >> beam.Map(_failure), unstored | "Unstored" >> beam.Map(_failure)]
    reports = {DUPLICATES: chosen[DUPLICATES], UNREADABLE: unreadable | beam.Flatten()}
    for name, found in reports.items():
        _ = (
            found
            | f"Line_{name}" >> beam.Map(_line, name)
            | f"Write_{name}" >> beam.io.WriteToText(str(plan.output / name), ".jsonl", shard_name_template="")
        )


def _digest(line: str) -> tuple[str, Entry]:
    entry = listing.read(line)
    return hashlib.sha256(_contents(entry.path)).hexdigest(), entry


def _contents(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadPicture(f"it cannot be read: {error.strerror}") from error


def _choose(same: tuple[str, Iterable[Entry]]) -> Iterator[Any]:
    """Of files with the same bytes the first is kept; of files of several classes, of which one is wrong, none."""
    digest, found = same
    first, *others = sorted(found, key=lambda entry: (entry.split != "train", entry.path))
    conflict = len({entry.label for entry in (first, *others)}) > 1
    if not conflict:
        yield digest, first
    if others:
        paths = [entry.path for entry in others]
        report = {"kept": None, "dropped": [first.path, *paths]} if conflict else {"kept": first.path, "dropped": paths}
        yield beam.pvalue.TaggedOutput(DUPLICATES, report)


def _with_part(kept: tuple[str, Entry], parts: int) -> tuple[int, tuple[str, Entry]]:
    return int(kept[0][-_DIGITS:], 16) % parts, kept


def _store(kept: tuple[str, Entry], plan: Plan) -> tuple[str, bytes]:
    """The split, and a record as `training.data.records` reads it."""
    digest, entry = kept
    encoded, height, width = pictures.shrink(_contents(entry.path), plan.short_side, plan.quality)
    split = entry.split or plan.shares.split(digest)
    name = plan.class_names[entry.label]
    Metrics.counter(NAMESPACE, split).inc()
    values = {
        "image/encoded": encoded,
        "image/class/label": entry.label,
        "image/class/text": name.encode(),
        "image/filename": f"{name}/{Path(entry.path).name}".encode(),
        "image/height": height,
        "image/width": width,
    }
    features = tf.train.Features(feature={key: _feature(value) for key, value in values.items()})
    return split, tf.train.Example(features=features).SerializeToString()


def _feature(value: bytes | int) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _failure(failure: tuple[Any, tuple[type, str, list[str]]]) -> dict[str, str]:
    """From what Beam says of a failure: the element, and kind, text and place of the error."""
    element, (_, reason, _) = failure
    entry = listing.read(element) if isinstance(element, str) else element[1]
    return {"path": entry.path, "reason": reason}


def _line(found: dict[str, Any], name: str) -> str:
    Metrics.counter(NAMESPACE, name).inc(len(found.get("dropped", [0])))
    return json.dumps(found, ensure_ascii=False)
