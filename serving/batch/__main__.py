"""Judges many pictures with Apache Beam: `python -m serving.batch --input='**.jpg' --model=MODEL --output=FOLDER`.

Rows go to FOLDER/rows-*, pictures that cannot be read to FOLDER/bad-*.jsonl with the reason. It runs on this machine
unless Beam's flags say otherwise (`--runner=FlinkRunner --flink_master=...`); see docs/scale.md. A run that was killed
is started again by the same command. Exit status: 0; 1 where the job failed or more than --max_bad_share of the
pictures are bad; 2 for an error before the start, which leaves nothing behind.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator

import apache_beam as beam
from absl import app
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from keras_mobilenet import beam_flags
from serving.batch import artefact, flags, inputs, pipeline, progress, summary
from serving.batch.folder import BAD, Folder
from serving.batch.handlers import Counting
from serving.batch.job import Job, Plan

_FAILED, _REFUSED, _INTERRUPTED = 1, 2, 130
_SHOWN = 5  # bad pictures that are printed


def main(argv: list[str]) -> int:
    """Does what the flags say."""
    beam_flags.only_warnings()
    try:
        job, options = flags.job(), beam_flags.options(argv[1:])
        plan = _plan(job, beam_flags.is_local(options))
        folder = Folder(job.output)
        with folder.locked():
            folder.begin(job.settings(plan.model))
            return _run(plan, options, folder)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt:
        print("stopped; the same command begins the job anew", file=sys.stderr)
        return _INTERRUPTED


def _plan(job: Job, local: bool) -> Plan:
    """Looks at everything that can be wrong before anything is written."""
    if job.server:
        with job.server.client() as client:
            model = artefact.served(client, job.server.model_name, job.wanted)
    else:
        model = artefact.stored(job.model, job.wanted)
    return Plan(job, model, inputs.check(job.inputs, count=local))


def _run(plan: Plan, options: PipelineOptions, folder: Folder) -> int:
    start = time.perf_counter()
    try:
        with _followed(plan, beam_flags.is_local(options)) as followed:
            job = beam.Pipeline(options=options)
            pipeline.build(job, followed)
            result = job.run()
            state = result.wait_until_finish()
    except Exception as error:  # Beam wraps whatever happened in a worker
        print(
            f"error: the job failed, and the same command begins it anew: {beam_flags.reason(error)}", file=sys.stderr
        )
        return _FAILED
    facts = folder.facts() if state == PipelineState.DONE else None
    if facts is None:
        print(f"error: the job ended as {state}; the same command begins it anew", file=sys.stderr)
        return _FAILED
    print("\n".join(summary.lines(summary.figures(result), time.perf_counter() - start)))
    print(f"rows: {folder.path}")
    return _judge(facts, folder)


@contextlib.contextmanager
def _followed(plan: Plan, local: bool) -> Iterator[Plan]:
    """The plan with a place to count in, and the progress line, where the workers are on this machine."""
    if not local:
        yield plan
        return
    with tempfile.TemporaryDirectory(prefix="serving_batch_") as counts, progress.Line(counts, plan.pictures):
        yield Plan(plan.job, plan.model, plan.pictures, Counting(counts, os.getpid()))


def _judge(facts: dict[str, float], folder: Folder) -> int:
    if not facts["bad"]:
        return 0
    print(f"{facts['bad']:,} bad pictures, listed in {', '.join(folder.files(BAD))}:", file=sys.stderr)
    for one in folder.bad(_SHOWN):
        print(f"  {one['path']}: {one['reason']}", file=sys.stderr)
    if facts["within_max_bad_share"]:
        return 0
    share = facts["bad"] / (facts["rows"] + facts["bad"])
    print(
        f"error: {share:.2%} of the pictures are bad, more than --max_bad_share={facts['max_bad_share']:g}; the rows "
        "of the others are complete",
        file=sys.stderr,
    )
    return _FAILED


if __name__ == "__main__":
    app.run(main, flags_parser=beam_flags.parse)
