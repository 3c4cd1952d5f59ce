"""Speed of training steps and of the input pipeline next to the peers: `python -m training.benchmark`.

Prints a Markdown table; medians, with first and third quartile. Run it on a machine that does nothing else.
"""

import datetime
import json
import shlex
import sys
from pathlib import Path

from absl import app, flags

from training import results
from training.benchmark import rows

_ROWS = flags.DEFINE_list("rows", list(rows.ROWS), f"What to measure, of {', '.join(rows.ROWS)}.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns that each contestant gets.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps in a turn.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Pictures in a step.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", "../shared/data/train", "Folder of the pictures' TFRecords.")
_JSON = flags.DEFINE_string("json", None, "File for the figures.")


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    unknown = set(_ROWS.value) - rows.ROWS.keys()
    if unknown:
        raise app.UsageError(f"--rows={','.join(sorted(unknown))}: there is {', '.join(rows.ROWS)}.")
    command = shlex.join(["python", *sys.orig_argv[1:]])
    print(f"`{command}`, {datetime.date.today()}, {results.machine()}\n", flush=True)
    contestants = [f"--batch_size={_BATCH_SIZE.value}", f"--data_dir={Path(_DATA_DIR.value).resolve()}"]
    try:
        found = rows.measure(_ROWS.value, _ROUNDS.value, _STEPS.value, contestants)
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
    print(rows.table(found))
    print("\n" + ", ".join(f"{name} {version}" for name, version in results.versions().items()))
    if _JSON.value:
        facts = {"command": command, "date": str(datetime.date.today()), "machine": results.machine()}
        content = facts | {"versions": results.versions(), "rows": rows.as_json(found)}
        Path(_JSON.value).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
