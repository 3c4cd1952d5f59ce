"""Accuracy against multiply-adds, parameters and latency: what was published, and what was measured here."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from training.paper import document, measurements
from training.paper.checkpoints import CHECKPOINTS, Checkpoint
from training.paper.measurements import Accuracy, Latency
from training.paper.networks import Network, cost

FIGURE = "curve.png"
DOCUMENT = "curve.md"
COLORS = {"mobilenet_v1": "tab:orange", "mobilenet_v2": "tab:blue"}
TITLES = {"mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2"}

Value = Callable[[Network], float | None]


def lines() -> dict[tuple[str, float], list[Checkpoint]]:
    """The checkpoints of each (network, alpha), from the largest pictures to the smallest."""
    found: dict[tuple[str, float], list[Checkpoint]] = {}
    for row in CHECKPOINTS:
        found.setdefault((row.network.family, row.network.alpha), []).append(row)
    return found


def frontier(rows: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that no other beats with as few multiply-adds, from the cheapest on."""
    best: list[Checkpoint] = []
    for row in sorted(rows, key=lambda row: (cost(row.network).multiply_adds, -row.top_1)):
        if not best or row.top_1 > best[-1].top_1:
            best.append(row)
    return best


def draw(latencies: Mapping[str, Latency], accuracies: Mapping[str, Accuracy]) -> Figure:
    """Panels side by side; the last one only where latencies were measured."""
    values: dict[str, Value] = {
        "multiply-adds, M": lambda network: cost(network).multiply_adds / 1e6,
        "parameters, M": lambda network: cost(network).parameters / 1e6,
    }
    if latencies:
        values["ms a picture, LiteRT float32, here"] = lambda network: (
            latencies[network.key].median if network.key in latencies else None
        )
    figure, axes = plt.subplots(1, len(values), figsize=(5.2 * len(values), 4.6), layout="constrained", sharey=True)
    for axis, (title, value) in zip(axes, values.items(), strict=True):
        _panel(axis, value, accuracies)
        axis.set(xlabel=title, xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("top-1, %")
    axes[0].legend(fontsize=8)
    return figure


def _panel(axis: Axes, value: Value, accuracies: Mapping[str, Accuracy]) -> None:
    labelled = set()
    for (family, alpha), rows in lines().items():
        points = [(value(row.network), row.top_1) for row in rows]
        points = [(x, y) for x, y in points if x is not None]
        if not points:
            continue
        label = None if family in labelled else f"{TITLES[family]}, published, ImageNet"
        labelled.add(family)
        axis.plot(*zip(*points, strict=True), marker=".", color=COLORS[family], label=label)
        axis.annotate(f"{alpha:g}", points[0], fontsize=7, xytext=(3, 3), textcoords="offset points")
    seen = set()
    for key, accuracy in accuracies.items():
        network = _network(key)
        if (x := value(network)) is not None:
            label = None if network.family in seen else f"{TITLES[network.family]}, here, {accuracy.pictures} pictures"
            seen.add(network.family)
            axis.plot(x, accuracy.top_1, "o", mfc="none", color=COLORS[network.family], label=label)


def _network(key: str) -> Network:
    """The network of a key of `measurements.accuracies`."""
    known = {row.network.key: row.network for row in CHECKPOINTS}
    return known[key.partition(" ")[0]]


def _measured_table(accuracies: Mapping[str, Accuracy]) -> str:
    printed = {row.network.key: row for row in CHECKPOINTS}
    rows = []
    for key, accuracy in accuracies.items():
        row = printed[key.partition(" ")[0]]
        ours = f"{accuracy.top_1:.1f} / {accuracy.top_5:.1f}"
        rows.append([accuracy.file, f"{row.top_1} / {row.top_5}", ours, f"{accuracy.pictures}"])
    return document.table(["file", "published, ImageNet, top-1 / top-5", "here, top-1 / top-5", "pictures"], rows)


def _frontier_table(latencies: Mapping[str, Latency]) -> str:
    rows = []
    for row in frontier(list(CHECKPOINTS)):
        ours, latency = cost(row.network), latencies.get(row.network.key)
        figures = [f"{ours.multiply_adds / 1e6:.1f}", f"{ours.parameters / 1e6:.2f}", str(latency) if latency else ""]
        rows.append([row.network.name, f"{row.top_1}", *figures])
    return document.table(["network", "top-1, published", "multiply-adds, M", "parameters, M", "ms here"], rows)


def text(folder: Path) -> str:
    """The document."""
    latencies, accuracies = measurements.latencies(folder), measurements.accuracies(folder)
    measured = ""
    if accuracies:
        measured = f"""
## Measured here

Weights files in our networks on pictures of `imagenet/ccby400`, stretched to the input size: other pictures, and
easier ones, than ImageNet's validation set; 400 of them have a sampling error of about 4 points. They show
that the weights are read rightly, not where the network stands on the curve. In percent:

{_measured_table(accuracies)}
Measured by {measurements.note(folder, "accuracy")}.
"""
    when = f"Latencies: {measurements.note(folder, 'latency')}.\n" if latencies else ""
    return f"""# Accuracy and cost

{document.stamp()}

![Top-1 against multiply-adds, parameters and latency]({FIGURE})

Accuracies are those published with the checkpoints; a line joins the input sizes of one width multiplier, which stands
at its largest size. Multiply-adds and parameters are counted in our models. {when}

## Which networks are worth their multiply-adds

Those that no other published checkpoint of either network beats with as few multiply-adds:

{_frontier_table(latencies)}{measured}"""


def run(output_dir: Path) -> None:
    """Writes the figure and the document."""
    figure = draw(measurements.latencies(output_dir), measurements.accuracies(output_dir))
    document.save(output_dir, FIGURE, figure)
    document.write(output_dir, DOCUMENT, text(output_dir))
