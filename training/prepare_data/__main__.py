"""Class folders to TFRecords: `python -m training.prepare_data --data_dir=PICTURES --output_dir=RECORDS`.

Pictures are shrunk to --short_side, stored as JPEG in an order that is as good as chance, and divided into train,
validation and test by their content, where the folder doesn't divide them. Of files with the same bytes one is kept;
duplicates and pictures that cannot be read are listed beside the records. `training.train --dataset=tfrecord
--data_dir=RECORDS --labels_file=labels.txt` reads them. It runs on this machine unless Beam's flags say otherwise.
RECORDS appears when all of it is there; a run that was killed leaves RECORDS.unfinished, which the next one replaces.
"""

import json
import shutil
import sys
from pathlib import Path

import apache_beam as beam
from absl import app, flags
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from keras_mobilenet import beam_flags
from training.data.folder import load_folder
from training.prepare_data import listing, pipeline
from training.prepare_data.listing import SPLITS, Shares
from training.prepare_data.pipeline import DUPLICATES, NAMESPACE, UNREADABLE, Plan

_DATA_DIR = flags.DEFINE_string("data_dir", None, "CLASS/*.jpg, or SPLIT/CLASS/*.jpg.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "A new folder.", required=True)
_SHORT_SIDE = flags.DEFINE_integer("short_side", 256, "Of the stored pictures, in pixels; none is enlarged.", 1)
_QUALITY = flags.DEFINE_integer("quality", 95, "Of the stored JPEG.", 1, 100)
_VALIDATION_SHARE = flags.DEFINE_float("validation_share", 0.1, "Where the folder doesn't divide pictures.", 0.0, 1.0)
_TEST_SHARE = flags.DEFINE_float("test_share", 0.1, "Where the folder doesn't divide pictures.", 0.0, 1.0)
_SHARDS = flags.DEFINE_integer(
    "shards", 0, "Files of each split; 0 leaves it to the runner, and no picture is shuffled.", 0, 99999
)

LISTING, LABELS, REPORT = "listing.jsonl", "labels.txt", "report.json"


def main(argv: list[str]) -> int:
    """Prepares what the flags name."""
    beam_flags.only_warnings()
    try:
        output = Path(_OUTPUT_DIR.value).absolute()
        if output.exists():
            raise ValueError(f"--output_dir={output} exists: name a new folder, or delete it")
        shares = Shares(_VALIDATION_SHARE.value, _TEST_SHARE.value)
        source = load_folder(_DATA_DIR.value)
        unfinished = _unfinished(output)
        count = listing.write(source, unfinished / LISTING)
        shrunk = (_SHORT_SIDE.value, _QUALITY.value, _SHARDS.value)
        plan = Plan(unfinished / LISTING, count, unfinished, source.class_names, shares, *shrunk)
        report = _run(plan, beam_flags.options(argv[1:]))
        _finish(plan, output, {"pictures": count} | report)
        return 0
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _unfinished(output: Path) -> Path:
    """An empty folder beside the output; what a killed run left in it is deleted."""
    folder = output.with_name(f"{output.name}.unfinished")
    if folder.exists() and not (folder / LISTING).exists():
        raise ValueError(f"{folder} is not what a killed run left: move it away")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(plan: Plan, options: PipelineOptions) -> dict[str, int]:
    with beam.Pipeline(options=options) as made:
        pipeline.build(made, plan)
    found = made.result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counted = {counter.key.metric.name: counter.result for counter in found}
    return {name: counted.get(name, 0) for name in (*SPLITS, DUPLICATES, UNREADABLE)}


def _finish(plan: Plan, output: Path, report: dict[str, int]) -> None:
    """Takes away splits without a picture, writes labels and report, and gives the folder its name."""
    for split in SPLITS:
        for file in plan.output.glob(f"{split}-*.tfrecord") if not report[split] else ():
            file.unlink()
    (plan.output / LABELS).write_text("".join(f"{name}\n" for name in plan.class_names), encoding="utf-8")
    (plan.output / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    plan.listing.unlink()
    plan.output.rename(output)
    print(", ".join(f"{name} {count:,}" for name, count in report.items()))
    for name in (DUPLICATES, UNREADABLE):
        if report[name]:
            print(f"{name}: {output / name}.jsonl")


if __name__ == "__main__":
    app.run(main, flags_parser=beam_flags.parse)
