"""Classify many pictures through a client: what `python -m serving.client` does with its arguments."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from keras_mobilenet import quiet
from keras_mobilenet.client import Classification, Client, ClientError, ModelMetadata, Outputs

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png"})

# Errors that the next picture would meet as well: they end the run. What else the server says is about the one picture.
_OF_THE_SERVER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

Classify = Callable[[Path], list[Classification]]


@dataclass(frozen=True)
class Result:
    """A picture and its classes, best first, or why there are none."""

    picture: Path
    classes: list[Classification]
    error: str = ""


def find_pictures(arguments: Iterable[str]) -> list[Path]:
    """The files that are named, and the pictures in and below the folders that are named.

    Args:
        arguments: paths of files and folders.

    Returns:
        The paths, those of each folder in order of their names. A file that is named is taken whatever its suffix.

    Raises:
        ValueError: a folder holds no picture.
    """
    pictures: list[Path] = []
    for path in map(Path, arguments):
        if not path.is_dir():
            pictures.append(path)
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise ValueError(f"The folder {path} holds no picture ({', '.join(sorted(SUFFIXES))}).")
        pictures += found
    return pictures


def read_labels(path: str) -> list[str]:
    """The labels of a file with one in each line, as in a model's `assets/labels.txt`."""
    return Path(path).read_text(encoding="utf-8").splitlines()


def classifier(
    client: Client,
    metadata: ModelMetadata,
    labels: Sequence[str] | None,
    top: int,
    version: int | None,
    version_label: str | None,
) -> Classify:
    """How to get a picture's classes from this model.

    TF Serving's Classify gives labels and scores. The outputs of Predict are read where the model has no signature for
    Classify, or where the labels are the user's.

    Args:
        client: of the model.
        metadata: the model's signatures.
        labels: of the classes, in their order; None for the model's own.
        top: how many classes to give at most.
        version: of the model; None for the newest.
        version_label: of the model; None for the newest.

    Returns:
        A function from a picture's path to its best classes.
    """

    def by_classify(picture: Path) -> list[Classification]:
        (found,) = client.classify(picture, version=version, version_label=version_label)
        return _best(found, top)

    def by_predict(picture: Path) -> list[Classification]:
        return read_outputs(client.predict(picture, version=version, version_label=version_label), labels, top)

    own_labels = any(
        name == "classify" or entry.method_name == "tensorflow/serving/classify"
        for name, entry in metadata.signatures.items()
    )
    return by_classify if own_labels and labels is None else by_predict


def read_outputs(outputs: Outputs, labels: Sequence[str] | None, top: int) -> list[Classification]:
    """The best classes of one picture in the answer of Predict.

    Args:
        outputs: arrays with a batch of one: `class_ids` or strings with `scores`, or one array with a score for each
            class.
        labels: of the classes, or None.
        top: how many classes to give at most.

    Returns:
        The classes, best first; without labels they are called `class 281`.

    Raises:
        ValueError: it cannot be told which outputs are the scores, or there are fewer labels than classes.
    """
    rows = {name: array[0] for name, array in outputs.items() if array.ndim == 2}
    scores = {name: row for name, row in rows.items() if row.dtype.kind == "f"}
    own_labels = [row for row in rows.values() if row.dtype == object]
    if "scores" in scores:
        row = scores["scores"]
    elif len(scores) == 1:
        (row,) = scores.values()
    else:
        raise ValueError(f"the outputs {sorted(outputs)} do not tell which of them are the scores of the classes")
    if labels is None and len(own_labels) == 1:
        names = [name.decode(errors="replace") for name in own_labels[0]]
    else:
        names = [_name(int(index), labels) for index in rows.get("class_ids", range(len(row)))]
    return _best([Classification(name, float(score)) for name, score in zip(names, row, strict=True)], top)


def _best(classes: list[Classification], top: int) -> list[Classification]:
    return sorted(classes, key=lambda one: -one.score)[:top]


def _name(class_id: int, labels: Sequence[str] | None) -> str:
    if labels is None:
        return f"class {class_id}"
    if class_id >= len(labels):
        raise ValueError(f"the model answered with class {class_id}, and there are only {len(labels)} labels")
    return labels[class_id]


def run(classify: Classify, pictures: Sequence[Path], at_once: int) -> Iterator[Result]:
    """Classify pictures, several at once, so that a server that batches has something to batch.

    Args:
        classify: as `classifier` gives it.
        pictures: their paths.
        at_once: how many requests are under way at most.

    Yields:
        A result for each picture, in order.

    Raises:
        ClientError: the server cannot answer, whatever the picture.
    """

    def one(picture: Path) -> Result:
        try:
            return Result(picture, classify(picture))
        except (ClientError, ValueError) as error:
            if isinstance(error, ClientError) and error.code in _OF_THE_SERVER:
                raise
            return Result(picture, [], quiet.one_line(getattr(error, "message", str(error))))

    pool = ThreadPoolExecutor(at_once)
    try:
        yield from pool.map(one, pictures)
    finally:
        # On Ctrl-C the requests under way are not waited for; they end when the client is closed.
        pool.shutdown(wait=False, cancel_futures=True)


def to_csv(results: Iterable[Result]) -> str:
    """A line for each picture and class: picture, rank, label, score, error."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "rank", "label", "score", "error"])
    for result in results:
        if result.error:
            writer.writerow([result.picture, "", "", "", result.error])
        for rank, (label, score) in enumerate(result.classes, 1):
            writer.writerow([result.picture, rank, label, f"{score:.6g}", ""])
    return text.getvalue()


def to_json(results: Iterable[Result]) -> str:
    """A list with an object for each picture."""
    entries = [
        {"picture": str(result.picture)}
        | ({"error": result.error} if result.error else {"classes": [one._asdict() for one in result.classes]})
        for result in results
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


FORMATS = {".csv": to_csv, ".json": to_json}


def write(path: Path, text: str) -> None:
    """Write a file in one step, so that no reader sees half of it."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            file.write(text)
            file.close()
            os.chmod(file.name, 0o666 & ~_umask())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
