"""Our networks beside keras.applications, and our weights beside the originals, as Markdown.

`python -m training.parity` builds every published (alpha, size) of MobileNetV1 and V2 twice, by this package and by
keras.applications, gives both the same random weights and compares parameters and outputs; then it loads each weights
file of `--data` and measures it on the 400 pictures there, next to the original file run by LiteRT.
"""

import csv
import datetime
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ai_edge_litert.interpreter as litert
import keras
import numpy as np
from absl import app, flags

import keras_mobilenet as km
from keras_mobilenet import preprocessing
from keras_mobilenet.weights import published
from training import results

_DATA = flags.DEFINE_string("data", "../shared/data", "Folder with weights/ and imagenet/ccby400/.")
_TABLES = flags.DEFINE_multi_enum("tables", ["parity", "accuracy"], ["parity", "accuracy"], "What to print.")
_PICTURES = flags.DEFINE_integer("pictures", 400, "How many pictures the accuracy is measured on.", lower_bound=1)

BUILDERS: dict[str, tuple[Callable[..., keras.Model], Callable[..., keras.Model]]] = {
    "mobilenet_v1": (km.MobileNetV1, keras.applications.MobileNet),
    "mobilenet_v2": (km.MobileNetV2, keras.applications.MobileNetV2),
}
BATCH = 50


@dataclass(frozen=True)
class Parity:
    """Our network beside keras.applications' with the same weights.

    Attributes:
        network: Key of `BUILDERS`.
        alpha: Width multiplier.
        size: Input size in pixels.
        parameters: Of ours, batch norm statistics included.
        their_parameters: Of keras.applications'.
        same_names: Whether layers' and weights' names and their order agree.
        difference: Largest absolute difference of two probabilities.
        highest: Highest probability, which shows that the outputs are not all alike.
    """

    network: str
    alpha: float
    size: int
    parameters: int
    their_parameters: int
    same_names: bool
    difference: float
    highest: float


def compare(network: str, alpha: float, size: int, seed: int = 0) -> Parity:
    """Builds a network twice, gives both the same random weights and compares what they put out.

    Args:
        network: Key of `BUILDERS`.
        alpha: Width multiplier.
        size: Input size in pixels.
        seed: Of weights and pictures.

    Returns:
        The comparison.
    """
    keras.backend.clear_session()
    build, build_theirs = BUILDERS[network]
    ours = build(alpha=alpha, input_shape=(size, size, 3), weights=None, batch_norm_momentum=0.0)
    theirs = build_theirs(alpha=alpha, input_shape=(size, size, 3), weights=None)
    pictures = np.random.default_rng(seed).uniform(-1, 1, (4, size, size, 3)).astype(np.float32)
    randomize(ours, pictures, seed)
    same_names = _names(ours) == _names(theirs)
    theirs.set_weights(ours.get_weights())
    probabilities, their_probabilities = (np.asarray(model(pictures, training=False)) for model in (ours, theirs))
    return Parity(
        network=network,
        alpha=alpha,
        size=size,
        parameters=ours.count_params(),
        their_parameters=theirs.count_params(),
        same_names=same_names,
        difference=float(np.abs(probabilities - their_probabilities).max()),
        highest=float(probabilities.max()),
    )


def randomize(model: keras.Model, pictures: np.ndarray, seed: int) -> None:
    """Draws weights with which a network puts out probabilities that differ, instead of 1/1000 for every class.

    Kernels stay as initialized, batch norms get random scales and offsets and the statistics of the pictures, and the
    classifier is scaled so that logits have a standard deviation of about 3.

    Args:
        model: A network with its classifier, built with `batch_norm_momentum=0.0`: its statistics are then the batch's.
        pictures: float32 [N, H, W, 3] in [-1, 1].
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0.5, 0.5, layer.beta.shape))
    model(pictures, training=True)
    classifier = next(layer for layer in reversed(model.layers) if layer.weights)
    features = keras.Model(model.input, classifier.input)(pictures, training=False)
    norm = float(np.linalg.norm(np.asarray(features).reshape(len(pictures), -1), axis=-1).mean())
    classifier.kernel.assign(rng.normal(0, 3 / norm, classifier.kernel.shape))
    classifier.bias.assign(rng.normal(0, 0.5, classifier.bias.shape))


def _names(model: keras.Model) -> list[tuple[str, str]]:
    return [(layer.name, weight.name) for layer in model.layers for weight in layer.weights]


def published_networks() -> Iterator[tuple[str, float, int]]:
    """(network, alpha, size) of everything that Keras publishes weights for."""
    for network, release in published.RELEASES.items():
        for alpha, sizes in release.sizes.items():
            yield from ((network, alpha, size) for size in sizes)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, the network it is for, and the accuracy (top-1, top-5) that the data's README states."""

    name: str
    network: str
    alpha: float
    size: int
    include_top: bool = True
    stated: tuple[float, float] | None = None


FILES = (
    WeightsFile("mobilenet_v1_0.25_128_slim_float.h5", "mobilenet_v1", 0.25, 128, stated=(40.2, 68.2)),
    WeightsFile("mobilenet_v1_0.25_224_slim_float.h5", "mobilenet_v1", 0.25, 224, stated=(50.5, 78.8)),
    WeightsFile("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1", 0.25, 128, stated=(46.2, 69.0)),
    WeightsFile("mobilenet_v1_0.5_160_quant.tflite", "mobilenet_v1", 0.5, 160, stated=(66.0, 87.0)),
    WeightsFile("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v2", 1.0, 224, stated=(85.8, 97.8)),
    WeightsFile("tf2_mobilenet_v2_1.0_224_ptq.tflite", "mobilenet_v2", 1.0, 224, stated=(81.5, 95.2)),
    WeightsFile("mobilenet_2_5_224_tf_no_top.h5", "mobilenet_v1", 0.25, 224, include_top=False),
    WeightsFile("mobilenet_v2_0.35_224_no_top_float.h5", "mobilenet_v2", 0.35, 224, include_top=False),
)


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures: encoded bytes, and ImageNet class indices [N]."""

    encoded: list[bytes]
    labels: np.ndarray

    def resized(self, size: int) -> Iterator[np.ndarray]:
        """Batches of float32 [n, size, size, 3] in [0, 255], stretched to the square."""
        for start in range(0, len(self.encoded), BATCH):
            yield np.asarray(preprocessing.decode_and_resize(self.encoded[start : start + BATCH], (size, size)))


def read_pictures(data: Path, count: int) -> Pictures:
    """Reads the first `count` pictures of `imagenet/ccby400`."""
    with (data / "imagenet" / "ccby400.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    encoded = [(data / "imagenet" / "ccby400" / row["file"]).read_bytes() for row in rows]
    return Pictures(encoded, np.array([int(row["class_index"]) for row in rows]))


def build(file: WeightsFile, data: Path) -> keras.Model:
    """Our network with the file's weights."""
    return BUILDERS[file.network][0](
        alpha=file.alpha,
        input_shape=(file.size, file.size, 3),
        include_top=file.include_top,
        weights=data / "weights" / file.name,
    )


def accuracy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5 in percent, of scores [N, 1000] and labels [N]; of equal scores the first class counts first."""
    order = np.argsort(-scores.astype(np.float64), axis=-1, kind="stable")[:, :5]
    hits = order == labels[:, None]
    return 100 * float(hits[:, 0].mean()), 100 * float(hits.any(axis=-1).mean())


def our_scores(model: keras.Model, pictures: Pictures, size: int) -> np.ndarray:
    """Outputs of one of our models for all pictures."""
    batches = (preprocessing.preprocess_input(batch) for batch in pictures.resized(size))
    return np.concatenate([np.asarray(model.predict_on_batch(batch)) for batch in batches])


def original_scores(path: Path, pictures: Pictures, size: int) -> np.ndarray:
    """Outputs [N, 1000] of a `.tflite` file as it is, run by LiteRT, without its background class."""
    interpreter = litert.Interpreter(str(path), num_threads=2)
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scores = []
    for batch in pictures.resized(size):
        for picture in np.clip(np.rint(batch), 0, 255).astype(np.uint8):
            interpreter.set_tensor(image["index"], picture[None])
            interpreter.invoke()
            scores.append(interpreter.get_tensor(output["index"])[0, 1:])
    return np.array(scores)


def headless_difference(file: WeightsFile, data: Path, pictures: Pictures) -> float:
    """Largest difference of a feature map to keras.applications' with the same file."""
    theirs = BUILDERS[file.network][1](
        alpha=file.alpha,
        input_shape=(file.size, file.size, 3),
        include_top=False,
        weights=str(data / "weights" / file.name),
    )
    batch = preprocessing.preprocess_input(next(pictures.resized(file.size))[:8])
    ours = build(file, data)
    return float(np.abs(np.asarray(ours(batch)) - np.asarray(theirs(batch))).max())


def _print_parity() -> None:
    print("| network | alpha | size | parameters | keras.applications | names and order | max. difference | highest |")
    print("|---|---|---|---|---|---|---|---|")
    for network, alpha, size in published_networks():
        row = compare(network, alpha, size)
        print(
            f"| {published.RELEASES[network].title} | {alpha} | {size} | {row.parameters:,} | {row.their_parameters:,} "
            f"| {'equal' if row.same_names else 'DIFFERENT'} | {row.difference:.1e} | {row.highest:.2f} |",
            flush=True,
        )
    print(
        "\nParameters with batch norm statistics; difference and highest of 4 x 1000 probabilities, random weights.\n"
    )


def _print_accuracy(data: Path, count: int) -> None:
    pictures = read_pictures(data, count)
    print("| file | our model | the original, by LiteRT | stated with the data |")
    print("|---|---|---|---|")
    for file in FILES:
        keras.backend.clear_session()
        if not file.include_top:
            difference = headless_difference(file, data, pictures)
            print(f"| `{file.name}` | features within {difference:.1e} of keras.applications' | | |", flush=True)
            continue
        ours = accuracy(our_scores(build(file, data), pictures, file.size), pictures.labels)
        original = "float, no LiteRT file"
        if file.name.endswith(".tflite"):
            scores = original_scores(data / "weights" / file.name, pictures, file.size)
            original = _percent(accuracy(scores, pictures.labels))
        print(f"| `{file.name}` | {_percent(ours)} | {original} | {_percent(file.stated)} |", flush=True)
    print(f"\nTop-1 / top-5 in percent on {len(pictures.labels)} pictures, stretched to the input size.\n")


def _percent(top: tuple[float, float] | None) -> str:
    return f"{top[0]:.1f} / {top[1]:.1f}" if top else ""


def main(argv: list[str]) -> None:
    """Prints the tables."""
    start = time.monotonic()
    print(
        f"`{shlex.join(['python', '-m', 'training.parity', *sys.argv[1:]])}`, {datetime.date.today()}, "
        f"{results.machine()}, Python {platform.python_version()}, Keras {keras.__version__}\n"
    )
    if "parity" in _TABLES.value:
        _print_parity()
    if "accuracy" in _TABLES.value:
        _print_accuracy(Path(_DATA.value), _PICTURES.value)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    app.run(main)
