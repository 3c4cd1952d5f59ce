"""Depthwise kernels and channels that carry nothing, layer by layer: do V1's depthwise kernels die, as is said?"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from matplotlib.figure import Figure

import keras_mobilenet as km
from keras_mobilenet import graph
from keras_mobilenet.weights import published
from training import network, parity
from training.paper import document
from training.paper.networks import Network

FIGURE = "dead_kernels.png"
DOCUMENT = "dead_kernels.md"
THRESHOLD = 0.01
THRESHOLDS = (0.001, 0.003, 0.01, 0.03, 0.1)
SILENT = 0.001
"""Share of positions above 0 below which a channel counts as silent."""

DEFAULT_FILES = tuple(file.name for file in parity.FILES)
NAME = re.compile(r"(mobilenet_v[12])_(\d\.\d+)_(\d+)")


@dataclass(frozen=True)
class Layer:
    """A depthwise convolution, with what its ReLU puts out on pictures.

    Attributes:
        name: Of the depthwise convolution.
        raw_norms: Norm of each channel's kernel as it is stored, over the root mean square of the layer's norms.
        norms: Norm of each channel's kernel, batch norm folded in, over the root mean square of the layer's norms.
        deviations: Standard deviation of each channel after ReLU, over positions and pictures, over the root mean
            square of the layer's deviations.
        active: Share of positions at which each channel is above 0.
    """

    name: str
    raw_norms: np.ndarray
    norms: np.ndarray
    deviations: np.ndarray
    active: np.ndarray


def network_of(file: Path, named: str | None = None) -> Network:
    """The network that a weights file holds, by the file's name.

    Args:
        file: A path whose name holds `mobilenet_v1_0.25_128` or the like, or a name that Keras publishes.
        named: Such a text, in the place of the file's name.

    Raises:
        ValueError: The name does not say it.
    """
    for family, release in published.RELEASES.items():
        for alpha, sizes in release.sizes.items():
            for size in sizes:
                if file.name in (release.file_name(alpha, size, True), release.file_name(alpha, size, False)):
                    return Network(family, alpha, size)
    match = NAME.search(named or file.name)
    if match is None:
        raise ValueError(
            f"{named or file.name!r} does not say which network it is: pass --network=mobilenet_v1_0.25_128 or the "
            "like (network, width multiplier, size in pixels), or a whole .keras model."
        )
    return Network(match[1], float(match[2]), int(match[3]))


def load(file: Path, named: str | None = None) -> keras.Model:
    """The model of a file of any kind: a whole `.keras` model, weights as `.h5`, or a quantized `.tflite`.

    Raises:
        ValueError: The file is missing or damaged, or it is not known which network it is.
    """
    if not file.is_file():
        raise ValueError(f"There is no file {file}: pass .keras, .h5 or quantized .tflite files.")
    if file.suffix == ".keras":
        return network.load(file)
    return network_of(file, named).build(include_top=False, weights=file)


def measure(model: keras.Model, pictures: Iterable[np.ndarray]) -> list[Layer]:
    """Measures the depthwise convolutions of a model.

    Args:
        model: Float or quantization-aware; with batch norm or without.
        pictures: Batches of float32 [n, H, W, 3] in [-1, 1].
    """
    folded = km.fold_batch_norm(model)
    depthwise = [layer for layer in folded.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    outputs = [_activated(folded, layer) for layer in depthwise]
    sums = _moments(keras.Model(folded.inputs, outputs), pictures)
    return [
        Layer(
            layer.name,
            _relative(_norms(model.get_layer(layer.name))),
            _relative(_norms(layer)),
            _relative(deviations),
            active,
        )
        for layer, (deviations, active) in zip(depthwise, sums, strict=True)
    ]


def _norms(layer: keras.layers.DepthwiseConv2D) -> np.ndarray:
    return np.linalg.norm(np.asarray(layer.kernel).reshape(-1, layer.kernel.shape[2] * layer.kernel.shape[3]), axis=0)


def _relative(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.sqrt(np.mean(np.square(values)))), 1e-30)


def _activated(model: keras.Model, layer: keras.layers.Layer) -> keras.KerasTensor:
    """The output of the ReLU behind a convolution."""
    readers = graph.consumers(model)
    while not isinstance(layer, keras.layers.ReLU):
        following = readers[layer.name]
        if len(following) != 1 or isinstance(following[0], keras.layers.Conv2D):
            raise ValueError(f"There is no ReLU behind {layer.name} of {model.name}: is it a MobileNet?")
        layer = following[0]
    return layer.output


def _moments(model: keras.Model, pictures: Iterable[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each output and channel: standard deviation, and share of positions above 0."""
    outputs = []
    for output in model.outputs:
        above = ops.cast(output > 0, "float32")
        parts = [ops.mean(output, (1, 2)), ops.var(output, (1, 2)), ops.mean(above, (1, 2))]
        outputs.append(ops.stack(parts, axis=1))
    by_picture = keras.Model(model.inputs, outputs)
    batches = [by_picture.predict_on_batch(images) for images in pictures]
    found = []
    for parts in zip(*batches, strict=True):
        mean, variance, above = np.moveaxis(np.concatenate(parts).astype(np.float64), 1, 0)
        found.append((np.sqrt(variance.mean(axis=0) + mean.var(axis=0)), above.mean(axis=0)))
    return found


def batches(data: Path, size: int, count: int, batch: int = 25) -> Iterator[np.ndarray]:
    """The first pictures of `imagenet/ccby400`, as the networks read them."""
    for images in parity.read_pictures(data, count).resized(size):
        for start in range(0, len(images), batch):
            yield km.preprocess_input(images[start : start + batch])


def share(values: Sequence[np.ndarray], threshold: float) -> float:
    """Share of values below a threshold, in percent."""
    return 100 * float(np.mean(np.concatenate(values) < threshold))


def _summary(found: dict[str, list[Layer]]) -> str:
    rows = []
    for name, layers in found.items():
        norms = [layer.norms for layer in layers]
        deviations = [layer.deviations for layer in layers]
        rows.append(
            [
                name,
                f"{sum(len(one) for one in norms):,}",
                f"{share([layer.raw_norms for layer in layers], THRESHOLD):.1f}",
                *(f"{share(norms, threshold):.1f} / {share(deviations, threshold):.1f}" for threshold in THRESHOLDS),
                f"{share([layer.active for layer in layers], SILENT):.1f}",
            ]
        )
    return document.table(
        [
            "file",
            "kernels",
            f"as stored, below {THRESHOLD:g}",
            *(f"below {t:g}" for t in THRESHOLDS),
            "silent channels",
        ],
        rows,
    )


def _by_layer(found: dict[str, list[Layer]]) -> str:
    """Files of one network side by side, layer by layer."""
    names = [layer.name for layer in next(iter(found.values()))]
    rows = []
    for number, name in enumerate(names):
        layers = [layers[number] for layers in found.values()]
        cells = (f"{share([one.norms], THRESHOLD):.0f} / {share([one.deviations], THRESHOLD):.0f}" for one in layers)
        rows.append([name, *cells])
    return document.table(["layer", *found], rows)


FIRST = 3
"""Layers at the start of a network that its dead channels are looked for in."""


def _reading(found: dict[str, list[Layer]]) -> str:
    """What the figures say, for each network: least and most over its files."""
    lines = []
    for title, mark in (("MobileNetV1", "conv_dw_"), ("MobileNetV2", "expanded_conv_")):
        files = [layers for layers in found.values() if layers[0].name.startswith(mark)]
        if not files:
            continue
        kernels = [share([layer.norms for layer in layers], THRESHOLD) for layers in files]
        channels = [share([layer.deviations for layer in layers], THRESHOLD) for layers in files]
        dead = [[np.sum(layer.deviations < THRESHOLD) for layer in layers] for layers in files]
        early = sum(sum(counts[:FIRST]) for counts in dead) / max(1, sum(sum(counts) for counts in dead))
        first = [share([layers[0].deviations], THRESHOLD) for layers in files]
        lines.append(
            f"- {title}, {len(files)} files: {min(kernels):.1f} to {max(kernels):.1f} % of the kernels are dead, and "
            f"{min(channels):.1f} to {max(channels):.1f} % of the channels; in the first depthwise layer "
            f"{min(first):.0f} to {max(first):.0f} % of the channels. {early:.0%} of all dead channels stand in the "
            f"first {FIRST} depthwise layers."
        )
    return "\n".join(lines)


def text(found: dict[str, list[Layer]], pictures: int) -> str:
    """The document."""
    groups: dict[tuple[str, ...], dict[str, list[Layer]]] = {}
    for name, layers in found.items():
        groups.setdefault(tuple(layer.name for layer in layers), {})[name] = layers
    tables = "\n".join(_by_layer(group) for group in groups.values())
    return f"""# Dead depthwise kernels

{document.stamp()}

![Share of dead kernels and channels by layer]({FIGURE})

Is it true of the published weights that MobileNetV1's depthwise kernels die? A kernel's norm, batch norm folded in, is
taken over the root mean square of its layer's norms; a channel's standard deviation behind the depthwise convolution's
ReLU, over all positions of {pictures} pictures of `imagenet/ccby400`, over the root mean square of its layer's. One
that is below {THRESHOLD:g} is called dead; the other columns show how much that depends on the threshold. A channel is
silent where it is above 0 at less than {SILENT:.1%} of the positions. In percent, kernels / channels:

{_summary(found)}
{_reading(found)}

By layer, threshold {THRESHOLD:g}, in percent, kernels / channels:

{tables}"""


def draw(found: dict[str, list[Layer]]) -> Figure:
    """Shares of dead kernels and channels by depth, a line for each file."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained", sharey=True)
    parts = {"depthwise kernels": "norms", "channels after the depthwise ReLU": "deviations"}
    for axis, (title, part) in zip(axes, parts.items(), strict=True):
        for name, layers in found.items():
            depth = np.linspace(0, 1, len(layers))
            style = "-" if layers[0].name.startswith("conv_dw") else "--"
            values = [share([getattr(layer, part)], THRESHOLD) for layer in layers]
            axis.plot(depth, values, style, marker=".", label=name)
        axis.set(title=f"dead {title}, threshold {THRESHOLD:g}", xlabel="depth, first to last depthwise layer")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of the layer, %")
    axes[1].legend(fontsize=7, title="lines: V1; dashed: V2", title_fontsize=7)
    return figure


def run(files: Sequence[Path], named: str | None, data: Path, pictures: int, output_dir: Path) -> None:
    """Measures the files and writes the document and the figure."""
    found = {}
    for file in files:
        keras.backend.clear_session()
        model = load(file, named)
        side = model.inputs[0].shape[1] or network_of(file, named).size
        found[file.name] = measure(model, batches(data, side, pictures))
        print(f"{file.name}: {share([layer.norms for layer in found[file.name]], THRESHOLD):.1f} %", flush=True)
    document.save(output_dir, FIGURE, draw(found))
    document.write(output_dir, DOCUMENT, text(found, pictures))
