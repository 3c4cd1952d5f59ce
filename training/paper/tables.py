"""The papers' tables of costs, counted again in our models: Markdown."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras

import keras_mobilenet as km
from keras_mobilenet.mobilenet_v2 import STAGES
from training.paper import document, printed
from training.paper.checkpoints import CHECKPOINTS
from training.paper.measurements import Latency
from training.paper.networks import Network, agrees, cost

DOCUMENT = "tables.md"

Latencies = Mapping[str, Latency]


def cost_table(table: printed.Table, latencies: Latencies) -> str:
    """A table of costs, printed figures beside ours."""
    short = "M" if table.unit == printed.MILLION else "B"
    titles = [
        "network",
        f"{table.accuracy}, printed" if table.accuracy else "",
        f"multiply-adds, {short}, printed",
        "ours",
    ]
    titles += ["parameters, M, printed", "ours, with / without batch norm", "ms, printed", "ms here", ""]
    return document.table(titles, [_cost_row(row, table.unit, latencies) for row in table.rows])


def _cost_row(row: printed.Row, unit: float, latencies: Latencies) -> list[str]:
    ours = row.cost()
    latency = latencies.get(row.network.key) if row.network and not (row.without or row.scales) else None
    return [
        row.name,
        row.accuracy,
        row.multiply_adds,
        f"{ours.multiply_adds / unit:,.{1 if unit == printed.MILLION else 2}f}" if ours else "",
        row.parameters,
        f"{ours.parameters / 1e6:.3f} / {ours.without_batch_norm / 1e6:.3f}" if ours else "",
        row.milliseconds,
        str(latency) if latency else "",
        row.note,
    ]


def differences(table: printed.Table) -> dict[str, str]:
    """Rows whose printed figures ours do not give, rounded or cut to their digits: name -> what differs."""
    found = {}
    for row in table.rows:
        ours = row.cost()
        if ours is None:
            continue
        counted = {
            "multiply-adds": (row.multiply_adds, [ours.multiply_adds / table.unit]),
            "parameters": (row.parameters, [ours.parameters / 1e6, ours.without_batch_norm / 1e6]),
        }
        wrong = [
            f"{name}: {text} printed, {figures[0]:.3f} counted"
            for name, (text, figures) in counted.items()
            if text and not any(agrees(figure, text) for figure in figures)
        ]
        if wrong:
            found[row.name] = "; ".join(wrong)
    return found


SHARES = {
    # Table 2 of V1: multiply-adds and parameters in percent, as printed.
    "1x1 convolutions": ("94.86", "74.59"),
    "depthwise 3x3": ("3.06", "1.06"),
    "3x3 convolution": ("1.19", "0.02"),
    "fully connected": ("0.18", "24.33"),
}


def shares() -> dict[str, tuple[float, float]]:
    """Table 2 of V1 counted: kind of layer -> its share of multiply-adds and of parameters, in percent.

    Parameters are those of kernels; the classifier's bias is not among them.
    """
    kinds = {"pointwise": "1x1 convolutions", "depthwise": "depthwise 3x3", "convolution": "3x3 convolution"}
    rows = [row for row in km.cost.count(km.MobileNetV1()).layers if row.multiply_adds]
    sums = {name: [0, 0] for name in SHARES}
    for row in rows:
        name = "fully connected" if row.name == "conv_preds" else kinds[row.kind]
        sums[name][0] += row.multiply_adds
        sums[name][1] += row.parameters - (row.output_shape[-1] if row.name == "conv_preds" else 0)
    totals = [sum(values[i] for values in sums.values()) for i in range(2)]
    return {name: (100 * values[0] / totals[0], 100 * values[1] / totals[1]) for name, values in sums.items()}


def _shares_table() -> str:
    notes = {"3x3 convolution": "misprint: 1.91, two digits changed places"}
    found = shares()
    return document.table(
        ["layers", "multiply-adds, %, printed", "ours", "parameters, %, printed", "ours", ""],
        [
            [name, texts[0], f"{found[name][0]:.2f}", texts[1], f"{found[name][1]:.2f}", notes.get(name, "")]
            for name, texts in SHARES.items()
        ],
    )


ONE_LAYER: dict[str, tuple[str, str, Callable[[], km.cost.ConvolutionCost]]] = {
    # Table 3 of V1: a layer of 14 x 14 x 512, multiply-adds and parameters in millions, as printed.
    "standard convolution": ("462", "2.36", lambda: km.cost.standard_convolution(3, 512, 512, 14)),
    "depthwise separable": ("52.3", "0.27", lambda: km.cost.depthwise_separable(3, 512, 512, 14)),
    "alpha = 0.75": ("29.6", "0.15", lambda: km.cost.depthwise_separable(3, 512, 512, 14, alpha=0.75)),
    "rho = 0.714": ("15.1", "0.15", lambda: km.cost.depthwise_separable(3, 512, 512, 14, alpha=0.75, rho=0.714)),
}


def _one_layer_table() -> str:
    rows = []
    for name, (multiply_adds, parameters, formula) in ONE_LAYER.items():
        found = formula()
        ours = f"{found.multiply_adds / 1e6:.2f}", f"{found.parameters / 1e6:.3f}"
        rows.append([name, multiply_adds, ours[0], parameters, ours[1]])
    return document.table(["layer", "multiply-adds, M, printed", "ours", "parameters, M, printed", "ours"], rows)


BODY = (
    # Table 2 of V2: input, t, c, n, s, as printed.
    ("112 x 112 x 32", 1, 16, 1, 1),
    ("112 x 112 x 16", 6, 24, 2, 2),
    ("56 x 56 x 24", 6, 32, 3, 2),
    ("28 x 28 x 32", 6, 64, 4, 2),
    ("14 x 14 x 64", 6, 96, 3, 1),
    ("14 x 14 x 96", 6, 160, 3, 2),
    ("7 x 7 x 160", 6, 320, 1, 1),
)


def stage_inputs() -> list[str]:
    """The shape that each row of V2's table 2 reads, taken from the built model."""
    model = km.MobileNetV2()
    first, shapes = 0, []
    for stage in STAGES:
        name = f"block_{first}_expand" if first else "expanded_conv_depthwise"
        shapes.append(" x ".join(str(side) for side in model.get_layer(name).input.shape[1:]))
        first += stage.repeats
    return shapes


def _body_table() -> str:
    rows = []
    for stage, own, (shape, *fields) in zip(STAGES, stage_inputs(), BODY, strict=True):
        ours = [stage.expansion, stage.filters, stage.repeats, stage.stride]
        rows.append([shape, own, " / ".join(map(str, fields)), " / ".join(map(str, ours))])
    return document.table(["input, printed", "ours", "t / c / n / s, printed", "ours"], rows)


LARGEST_KB = {"mobilenet_v1": "1600", "mobilenet_v2": "400"}
"""Table 3 of V2, its last row: KB of the largest tensor that has to be held, at 16 bits a value, as printed."""


def materialized(family: str) -> dict[int, int]:
    """Table 3 of V2 counted: size of the feature map in pixels -> most channels between two blocks.

    V1's blocks are its depthwise separable ones; V2's expansions can be computed part by part and need not be held.
    """
    model = Network(family).build()
    ends = [layer for layer in model.layers if layer.name.endswith(("_project_BN", "_add"))]
    if family == "mobilenet_v1":
        ends = [layer for layer in model.layers if layer.name.startswith("conv_pw_") and layer.name.endswith("_relu")]
    most: dict[int, int] = {}
    for layer in ends:
        size, _, channels = layer.output.shape[1:]
        most[size] = max(most.get(size, 0), channels)
    return most


def kilobytes(size: int, channels: int) -> float:
    """What a feature map takes at 16 bits a value, in thousands of bytes."""
    return size * size * channels * 2 / 1000


def _memory_table() -> str:
    found = {family: materialized(family) for family in LARGEST_KB}
    rows = [
        [f"{size} x {size}", *(f"{one[size]} / {kilobytes(size, one[size]):,.0f}" for one in found.values())]
        for size in next(iter(found.values()))
    ]
    largest = [max(kilobytes(size, channels) for size, channels in one.items()) for one in found.values()]
    rows.append(["largest", *(f"{value:,.0f}" for value in largest)])
    rows.append(["largest, printed", *LARGEST_KB.values()])
    return document.table(["feature map", "MobileNetV1, channels / KB", "MobileNetV2, channels / KB"], rows)


def _checkpoints_table(latencies: Latencies) -> str:
    rows = []
    for row in CHECKPOINTS:
        network, ours = row.network, cost(row.network)
        latency = latencies.get(network.key)
        rows.append(
            [
                network.name,
                row.multiply_adds,
                f"{ours.multiply_adds / 1e6:.1f}",
                f"{ours.parameters / 1e6:.3f}",
                f"{row.top_1} / {row.top_5}",
                f"{row.int8_top_1}" if row.int8_top_1 else "",
                str(latency) if latency else "",
                row.note,
            ]
        )
    titles = ["checkpoint", "multiply-adds, M, printed", "ours", "parameters, M, ours"]
    titles += ["top-1 / top-5, printed", "top-1 of the 8-bit file, printed", "ms here", ""]
    return document.table(titles, rows)


def networks() -> list[Network]:
    """All networks whose latency a table has a column for, each once."""
    tables = (*printed.V1_TABLES, *printed.V2_TABLES)
    rows = [row.network for table in tables for row in table.rows if row.network and not (row.without or row.scales)]
    return list(dict.fromkeys([*rows, *(row.network for row in CHECKPOINTS)]))


INTRODUCTION = """Figures marked as printed are the papers': arXiv:1704.04861 (MobileNetV1) and arXiv:1801.04381
(MobileNetV2). Ours are counted in the built models by `km.cost.count`. MobileNetV1's tables count the parameters of
kernels and biases alone, without batch norm; both counts stand here. Accuracies are the papers', on ImageNet; what was
measured here stands in [curve.md](curve.md) and [parity.md](../parity.md). A printed figure without a note is ours,
rounded or cut to its digits; a test holds every one against it.
"""

LATENCY = """Milliseconds here: LiteRT, float32, one picture, two threads, on the machine above; median (first to third
quartile) of rounds in which all networks take turns. The papers' are of a Pixel 1, one large core.
"""


def text(latencies: Latencies) -> str:
    """All tables as one document."""
    sections = {
        "MobileNetV1, table 2: where the cost is": _shares_table,
        "MobileNetV1, table 3: one layer of 14 x 14 x 512": _one_layer_table,
        **{table.title: lambda table=table: cost_table(table, latencies) for table in printed.V1_TABLES},
        "MobileNetV2, table 2: the body": _body_table,
        "MobileNetV2, table 3: what has to be held in memory": _memory_table,
        **{table.title: lambda table=table: cost_table(table, latencies) for table in printed.V2_TABLES},
        "The published checkpoints": lambda: _checkpoints_table(latencies),
    }
    parts = ["# The papers' tables", document.stamp(), INTRODUCTION + ("\n" + LATENCY if latencies else "")]
    for title, section in sections.items():
        keras.backend.clear_session()
        parts.append(f"## {title}\n\n{section()}")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def run(output_dir: Path, latencies: Latencies) -> None:
    """Writes the tables."""
    document.write(output_dir, DOCUMENT, text(latencies))
