"""COCO's average precision of a detector, computed by pycocotools."""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.boxes import Boxes

UNKNOWN_SIZE = (480, 640)  # pixels; only the figures by area depend on it
LARGEST_AREA = 1e10


@dataclass(frozen=True)
class Found:
    """What a detector found in a picture.

    Attributes:
        corners: float32 [n, 4]: ymin, xmin, ymax, xmax as shares of the picture's sides.
        classes: int64 [n], from 0 on.
        scores: float32 [n].
    """

    corners: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    @classmethod
    def rows(cls, boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, count: np.ndarray) -> list["Found"]:
        """The pictures of a batch, from what `keras_mobilenet.detection.suppress` and exports give."""
        return [
            cls(np.asarray(b[: int(n)]), np.asarray(c[: int(n)], np.int64), np.asarray(s[: int(n)]))
            for b, c, s, n in zip(boxes, classes, scores, np.reshape(count, -1), strict=True)
        ]


@dataclass(frozen=True)
class Precision:
    """Average precision, all 0 to 1.

    Attributes:
        ap: mean over the classes and over intersections over union of 0.50, 0.55 to 0.95: COCO's mAP.
        ap50: mean over the classes at an intersection over union of 0.5.
        by_class: `ap` of each class; nan where there is no object of it.
    """

    ap: float
    ap50: float
    by_class: np.ndarray


def average_precision(truth: Sequence[Boxes], found: Iterable[Found], classes: int) -> Precision:
    """Average precision of what a detector found.

    Args:
        truth: the objects of each picture.
        found: what was found in each, in the same order; the best 100 of each count.
        classes: number of classes.

    Returns:
        COCO's figures over all areas.

    Raises:
        ValueError: there is no object in any of the pictures.
        ImportError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError("Average precision is computed by pycocotools: pip install pycocotools") from error
    if not any((~boxes.crowd).any() for boxes in truth):
        raise ValueError("There is no object in any of the pictures: the split has nothing to evaluate on.")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of each of its steps
        objects = COCO()
        objects.dataset = _dataset(truth, classes)
        objects.createIndex()
        results = _results(truth, found)
        if not len(results):
            return Precision(0.0, 0.0, np.zeros(classes))
        evaluation = COCOeval(objects, objects.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, LARGEST_AREA]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes; the best 100 boxes
    return Precision(
        _mean(precision), _mean(precision[0]), np.array([_mean(precision[:, :, k]) for k in range(classes)])
    )


def _mean(precision: np.ndarray) -> float:
    """Mean of what is known: -1 stands for a class without objects."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


def _pixels(corners: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """x, y, width, height in pixels."""
    height, width = size or UNKNOWN_SIZE
    ymin, xmin, ymax, xmax = np.asarray(corners, np.float64).reshape(-1, 4).T
    return np.stack([xmin * width, ymin * height, (xmax - xmin) * width, (ymax - ymin) * height], axis=1)


def _dataset(truth: Sequence[Boxes], classes: int) -> dict[str, list]:
    annotations: list[dict] = []
    for number, boxes in enumerate(truth):
        for place, kind, crowd in zip(_pixels(boxes.corners, boxes.size), boxes.classes, boxes.crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(kind),
                    "bbox": place.tolist(),
                    "area": float(place[2] * place[3]),
                    "iscrowd": int(crowd),
                }
            )
    images = [{"id": number} for number in range(len(truth))]
    return {"images": images, "annotations": annotations, "categories": [{"id": kind} for kind in range(classes)]}


def _results(truth: Sequence[Boxes], found: Iterable[Found]) -> np.ndarray:
    """Rows of image, x, y, width, height, score, class."""
    rows = []
    for number, (boxes, seen) in enumerate(zip(truth, found, strict=True)):
        places = _pixels(seen.corners, boxes.size)
        images = np.full(len(places), number)
        rows.append(np.column_stack([images, places, seen.scores, seen.classes]))
    return np.concatenate(rows).astype(np.float64)
