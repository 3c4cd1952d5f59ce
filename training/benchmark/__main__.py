"""Training next to the peers, speed and accuracy: `python -m training.benchmark`.

Prints Markdown; of speeds medians, with first and third quartile. Run it on a machine that does nothing else.
"""

import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from absl import app, flags

from training import results
from training.benchmark import accuracy, rows

ACCURACY = "accuracy"

_ROWS = flags.DEFINE_list("rows", list(rows.ROWS), f"What to measure, of {', '.join([*rows.ROWS, ACCURACY])}.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns that each contestant gets.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps in a turn.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pictures in a step.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", "../shared/data/train", "Folder of the pictures' TFRecords.")
_WEIGHTS = flags.DEFINE_string(
    "weights", "../shared/data/weights/mobilenet_v2_0.35_224_no_top_float.h5", "accuracy: where training starts."
)
_RUNS = flags.DEFINE_string("runs", "runs", "accuracy: folder of the runs; those that are done are not run again.")
_JSON = flags.DEFINE_string("json", None, "File for the figures.")


def measure() -> dict[str, Any]:
    """Measures the rows of the flags, and prints their tables."""
    data_dir = Path(_DATA_DIR.value).resolve()
    found: dict[str, Any] = {}
    speed = [name for name in _ROWS.value if name != ACCURACY]
    if speed:
        contestants = [f"--batch_size={_BATCH_SIZE.value}", f"--data_dir={data_dir}"]
        speeds = rows.measure(speed, _ROUNDS.value, _STEPS.value, contestants)
        print(rows.table(speeds), flush=True)
        found |= rows.as_json(speeds)
    if ACCURACY in _ROWS.value:
        runs = accuracy.run(Path(_RUNS.value), data_dir, Path(_WEIGHTS.value).resolve())
        figures = accuracy.measured(runs)
        print(accuracy.table(figures), flush=True)
        found[ACCURACY] = [{**vars(row), "ours": ours} for row, ours in figures]
    return found


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    unknown = set(_ROWS.value) - {*rows.ROWS, ACCURACY}
    if unknown:
        raise app.UsageError(f"--rows={','.join(sorted(unknown))}: there is {', '.join([*rows.ROWS, ACCURACY])}.")
    facts = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": results.machine(),
        "versions": results.versions(),
    }
    print(f"`{facts['command']}`, {facts['date']}, {facts['machine']}\n", flush=True)
    try:
        found = measure()
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    print("\n" + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(facts | {"rows": found}, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
