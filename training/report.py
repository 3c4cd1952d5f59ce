"""One HTML file on a run of `training.train`: `python -m training.report RUN_DIR`.

Curves, confusion matrix, sparsity and quantization error by layer, sizes and latencies, worst pictures. The file holds
all it shows and needs no network.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

import keras_mobilenet as km
from training import charts, console, data, history, network, pictures, quantization_error, results, stages, tasks
from training.recipe import Recipe

FILE = "report.html"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left } svg, img { max-width: 100%; height: auto }
figure { display: inline-block; margin: .3rem; width: 9rem; vertical-align: top; font-size: 12px; line-height: 1.3 }
figure img { width: 9rem; image-rendering: pixelated } code { overflow-wrap: anywhere }
"""

_OUTPUT = flags.DEFINE_string("output", None, "HTML file; by default report.html in the run's folder.")
_WORST = flags.DEFINE_integer("worst", 24, "How many pictures that the model is most wrong about are shown.")
_PICTURES = flags.DEFINE_integer("pictures", 64, "Test pictures that the quantization error is measured on.")


def build(run: Path, worst: int = 24, measured_pictures: int = 64) -> str:
    """The report of a run.

    Args:
        run: Output folder of a finished `training.train`.
        worst: How many of the pictures to show that the model is most wrong about.
        measured_pictures: Test pictures that the quantization error is measured on.

    Returns:
        A whole HTML page.

    Raises:
        FileNotFoundError: The run is not finished.
    """
    if not (run / results.FILE).exists():
        raise FileNotFoundError(
            f"{run} has no {results.FILE}: it is not a finished run of training.train. Start its command again."
        )
    result = json.loads((run / results.FILE).read_text())
    known = {item.name for item in dataclasses.fields(Recipe)}
    recipe = Recipe(**{name: value for name, value in result["recipe"].items() if name in known})
    split = pictures.open_splits(recipe, run).test
    task = tasks.get(recipe.task)
    row, kept = _predictions(run, result)
    first, *others = task.sections(row, kept, split, worst)
    sections = [
        _heading(result),
        ("Accuracy, size, speed", _figures(result)),
        ("Curves", charts.curves({name: history.read(run / name) for name in recipe.stage_names}, task.metric)),
        first,
        *_layers(run, recipe, split, measured_pictures),
        *others,
    ]
    body = "\n".join(f"<h2>{escape(title)}</h2>\n{content}" for title, content in sections)
    name = escape(result["name"])
    head = f'<meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body><h1>{name}</h1>\n{body}\n</body></html>\n"


def _heading(result: Mapping[str, Any]) -> tuple[str, str]:
    seconds = ", ".join(f"{stage} {value:,.0f} s" for stage, value in result["seconds"].items())
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    rows = [
        ("command", f"<code>{escape(result['command'])}</code>"),
        ("date, machine", escape(f"{result['date']}, {result['machine']}")),
        ("training", escape(seconds)),
        ("seed", str(result["seed"])),
        ("versions", escape(versions)),
        ("exported version", f"<code>{escape(result['export'])}</code>"),
    ]
    cells = "".join(f'<tr><td>{name}</td><td style="text-align:left">{value}</td></tr>' for name, value in rows)
    return "Run", f"<table>{cells}</table>"


def _figures(result: Mapping[str, Any]) -> str:
    lines = [line.strip("| ").split(" | ") for line in results.table(result).splitlines()]
    header, _, *rows = lines
    cells = ["".join(f"<th>{escape(cell)}</th>" for cell in header)]
    cells += ["".join(f"<td>{escape(cell.strip())}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _predictions(run: Path, result: Mapping[str, Any]) -> tuple[str, Mapping[str, np.ndarray]]:
    """The last file that was measured, and what it said of each test picture."""
    row = list(result["figures"])[-1]
    with np.load(run / results.PREDICTIONS / f"{row}.npz") as stored:
        return row, dict(stored)


def _layers(run: Path, recipe: Recipe, split: data.Split, count: int) -> Iterator[tuple[str, str]]:
    """Sparsity and quantization error, where the run pruned and quantized."""
    last = recipe.stage_names[-1]
    if "prune" in recipe.stage_names:
        found = km.sparsity(network.load(run / last / stages.MODEL_FILE))
        values = {kernel.layer: kernel.sparsity for kernel in found.layers}
        yield f"Sparsity by layer ({last}; {found.sparsity:.1%} of all kernels)", charts.bars(values, "share of zeros")
    if "quantize" in recipe.stage_names:
        keras.backend.clear_session()
        task = tasks.get(recipe.task)
        config = dataclasses.replace(task.input_config(recipe), batch_size=min(count, split.count))
        images = next(iter(task.batches(split, config, training=False)))[0]
        errors = quantization_error.by_layer(network.load(run / "quantize" / stages.MODEL_FILE), images)
        chart = charts.bars({error.layer: error.decibels for error in errors}, "signal over rounding noise, dB")
        yield f"Quantization error by layer ({len(images)} test pictures)", chart


def main(argv: list[str]) -> None:
    """Writes the report."""
    if len(argv) != 2:
        raise app.UsageError("give the run's folder: python -m training.report RUN_DIR")
    console.only_ours()
    run = Path(argv[1])
    output = Path(_OUTPUT.value) if _OUTPUT.value else run / FILE
    try:
        page = build(run, _WORST.value, _PICTURES.value)
        output.write_text(page, encoding="utf-8")
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    print(output)


if __name__ == "__main__":
    app.run(main)
