"""Measures the embedded server and prints a table: `python -m serving.benchmark`.

The machine should have nothing else to do: look at /proc/loadavg first.
"""

import os
import tempfile
from pathlib import Path

from absl import app, flags, logging

from serving.benchmark import faults, models, rows, table

_FIGURES = {
    "lite_cpu": rows.lite_cpu,
    "saved_model_cpu": rows.saved_model_cpu,
    "throughput": rows.throughput,
    "throughput_bfloat16": rows.throughput_bfloat16,
    "pytriton": rows.pytriton,
    "half_load": rows.half_load,
    "swaps": lambda plan: faults.swaps(plan, _SWAPS.value),
    "soak": lambda plan: faults.soak(plan, _SOAK_SECONDS.value),
}

_ROWS = flags.DEFINE_list(
    "rows",
    ["lite_cpu", "saved_model_cpu", "throughput", "throughput_bfloat16", "half_load"],
    f"What to measure, of {', '.join(_FIGURES)}.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds of each figure.", 1, 1000)
_SECONDS = flags.DEFINE_float("seconds", 5, "Length of a round of either side.", 0.1, 600)
_CLIENTS = flags.DEFINE_integer("clients", 8, "Clients, with a connection each.", 1, 256)
_THREADS = flags.DEFINE_integer("threads", os.cpu_count(), "Interpreters, or batches, that run at once.", 1, 1024)
_SWAPS = flags.DEFINE_integer("swaps", 20, "Version swaps of the row swaps.", 1, 1000)
_SOAK_SECONDS = flags.DEFINE_float("soak_seconds", 300, "Length of the row soak.", 10, 86400)
_MODELS = flags.DEFINE_string("models", "", "Folder to keep the models in for the next run; '' keeps nothing.")
_PYTRITON = flags.DEFINE_string(
    "pytriton", "", "Row pytriton: a Python whose environment has nvidia-pytriton, tensorflow and numpy."
)
_LITE_FILE = flags.DEFINE_string("tflite", "", "Int8 file, uint8 [1, 224, 224, 3] in; '' converts MobileNetV2 1.0.")
_JSON = flags.DEFINE_string("json", "-", "File for the results as JSON; - prints them behind the table.")


def main(argv: list[str]) -> None:
    """Measures what was asked for, figure by figure."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument: {argv[1]}")
    unknown = sorted(set(_ROWS.value) - set(_FIGURES))
    if unknown or not _ROWS.value:
        raise app.UsageError(f"--rows has {unknown or 'nothing'}; known are {', '.join(_FIGURES)}")
    if "pytriton" in _ROWS.value and not _PYTRITON.value:
        raise app.UsageError("--rows has pytriton: name an environment's Python that has it by --pytriton")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(_MODELS.value or scratch).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        made = models.make(folder, _LITE_FILE.value)
        plan = rows.Plan(made, _CLIENTS.value, _ROUNDS.value, _SECONDS.value, _THREADS.value, _PYTRITON.value)
        results: list[table.Row] = []
        try:
            for name in _ROWS.value:
                logging.info("Measuring %s", name)
                results.append(_FIGURES[name](plan))
                logging.info("%s", table.line(results[-1]))
        finally:  # A row that fails, such as a peer that does not start, takes nothing from those before it.
            _show(results)


def _show(results: list[table.Row]) -> None:
    print(table.markdown(results))
    if _JSON.value == "-":
        print(table.as_json(results))
    else:
        Path(_JSON.value).write_text(table.as_json(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app.run(main)
