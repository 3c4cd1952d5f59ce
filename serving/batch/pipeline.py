"""The job as a Beam pipeline.

    names -> spread -> read, decode -> batches -> model -> rows -> files, finished
                            |                       |
                            +------ bad pictures ---+-> files

From the spread on everything is one stage for the runner: a picture's bytes never leave the worker that read them.
"""

import functools
import json
import time
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from serving.batch import inputs, pictures
from serving.batch.answers import Row
from serving.batch.folder import BAD, ROWS, Folder
from serving.batch.handlers import NAMESPACE, Counting, Refused, ServedModel, StoredModel
from serving.batch.job import Plan
from serving.batch.outputs import WriteRows
from serving.batch.pictures import BadPicture, Encoded, Picture

Bad = dict[str, str]
"""`path` and `reason` of a picture without a row."""

BAD_COUNTER = "bad_pictures"
DECODE_MICROSECONDS = "decode_microseconds"


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Puts a job's steps into a pipeline.

    Args:
        pipeline: Of any runner.
        plan: The job.
    """
    job = plan.job
    folder = Folder(job.output)
    rows, bad = _rows_and_bad(pipeline, plan)
    row_files = rows | "WriteRows" >> WriteRows(folder.join(ROWS), job.format, job.wanted.task, job.shards)
    bad_files = (
        bad
        | "BadLine" >> beam.Map(json.dumps, ensure_ascii=False)
        | "WriteBad" >> beam.io.WriteToText(folder.join(BAD), ".jsonl")
    )
    finished = functools.partial(_finish, folder, job.max_bad_share)
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        | "Finish"
        >> beam.Map(
            finished,
            beam.pvalue.AsSingleton(rows | "CountRows" >> beam.combiners.Count.Globally()),
            beam.pvalue.AsSingleton(bad | "CountBad" >> beam.combiners.Count.Globally()),
            beam.pvalue.AsIter(row_files),
            beam.pvalue.AsIter(bad_files),
        )
    )


def _finish(folder: Folder, max_bad_share: float, once: None, rows: int, bad: int, *files: Iterable[str]) -> None:
    """The last step: what it is given of the files is that they are there."""
    within = bad <= max_bad_share * (rows + bad)
    folder.finish({"rows": rows, "bad": bad, "max_bad_share": max_bad_share, "within_max_bad_share": within})


def _rows_and_bad(pipeline: beam.Pipeline, plan: Plan) -> tuple[beam.PCollection[Row], beam.PCollection[Bad]]:
    job, model = plan.job, plan.model
    found = pipeline | "Find" >> inputs.ReadPaths(job.inputs)
    is_record = job.inputs.format == "tfrecords"
    if is_record:
        found |= "Records" >> beam.FlatMap(inputs.records)
    handler = _handler(plan).with_preprocess_fn(Prepare(is_record, model.size)).with_postprocess_fn(accept)
    rows, failed = found | RunInference(handler).with_exception_handling(exc_class=BadPicture)
    failures = [*failed.failed_preprocessing, *failed.failed_postprocessing]
    described = [one | f"Bad{i}" >> beam.Map(describe, plan.counting) for i, one in enumerate(failures)]
    return rows, described | "Bad" >> beam.Flatten()


def _handler(plan: Plan) -> ModelHandler:
    job, model = plan.job, plan.model
    if job.server:
        return ServedModel(job.server, model.reading, model.signature, job.batch_size, plan.counting)
    return StoredModel(job.model, model.reading, job.batch_size, job.threads, plan.counting)


class Prepare:
    """From a path, or a record, to a picture that the model takes.

    Args:
        is_record: Whether records come in, not paths.
        size: Height and width to bring pictures to; None leaves them encoded.
    """

    def __init__(self, is_record: bool, size: tuple[int, int] | None) -> None:
        self._is_record, self._size = is_record, size
        self._microseconds = Metrics.distribution(NAMESPACE, DECODE_MICROSECONDS)

    def __call__(self, found: str | Encoded) -> Picture:
        """Reads and decodes.

        Raises:
            BadPicture: It cannot.
        """
        encoded = inputs.picture_of(found) if self._is_record else pictures.read(found)
        start = time.perf_counter()
        picture = pictures.decode(encoded, self._size) if self._size else pictures.check(encoded)
        self._microseconds.update(round((time.perf_counter() - start) * 1e6))
        return picture


def accept(answer: Row | Refused) -> Row:
    """Lets rows pass.

    Raises:
        BadPicture: The server refused the picture.
    """
    if isinstance(answer, Refused):
        raise BadPicture(f"the server refused it: {answer.reason}")
    return answer


def describe(failure: tuple[Any, tuple[type, str, list[str]]], counting: Counting | None) -> Bad:
    """What the dead-letter output says of a picture; Beam gives the element, and kind, text and place of the error."""
    element, (_, text, _) = failure
    Metrics.counter(NAMESPACE, BAD_COUNTER).inc()
    if counting:
        counting.add(bad=1)
    path = element if isinstance(element, str) else element.path
    return {"path": path, "reason": text}
