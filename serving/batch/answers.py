"""From a model's outputs to a row of the job's output."""

import base64
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from serving.edge_tpu import tasks

TASKS = {"classify": "classification", "detect": "detection", "segment": "segmentation", "embed": "embedding"}
"""What the job does, and what its model is for."""

FEATURES = "features"  # the output of an exported network without a head

Row = dict[str, Any]
"""A picture's values by column."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the outputs of one model are read.

    Args:
        task: One of `TASKS`.
        output: The output to read; of a detector the first of `boxes`.
        boxes: A detector's outputs: boxes, classes, scores, count.
        settings: Labels, how many, from which score on.
        model: The model's name, for the column `model`.
        version: Its version, for the column `version`.
    """

    task: str
    output: str
    boxes: tuple[str, ...]
    settings: tasks.Settings
    model: str
    version: str

    def rows(
        self,
        paths: list[str],
        sizes: list[tuple[int, int]],
        outputs: Mapping[str, np.ndarray],
        version: str | None = None,
    ) -> list[Row]:
        """Reads the outputs for a batch.

        Args:
            paths: What the pictures are called.
            sizes: Width and height of each, in pixels.
            outputs: Arrays with the batch as their first axis.
            version: What answered, where it isn't `self.version`.

        Returns:
            A row for each picture.
        """
        wanted = self.boxes or (self.output,)
        rows = []
        for i, (path, size) in enumerate(zip(paths, sizes, strict=True)):
            one = {name: outputs[name][i : i + 1] for name in wanted}
            row = {"path": path, **self._columns(one, size)}
            rows.append(row | {"model": self.model, "version": version or self.version})
        return rows

    def _columns(self, outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> Row:
        if self.task == "embed":
            return {"embedding": _pooled(outputs[self.output][0]).tolist()}
        answer = tasks.read(TASKS[self.task], list(self.boxes), outputs, self.settings, size)
        columns = ("class_ids", "labels", "shares" if self.task == "segment" else "scores", "boxes")
        values = zip(*answer.rows, strict=True) if answer.rows else ()
        row: Row = {name: list(column) for name, column in zip(columns, values, strict=False)}
        wanted = columns if self.task == "detect" else columns[:3]
        row = {name: row.get(name, []) for name in wanted}
        if self.task == "detect":
            row["boxes"] = [list(box) for box in row["boxes"]]
        return row | ({"mask": png(answer.mask)} if self.task == "segment" else {})


def choose_output(task: str, shapes: Mapping[str, tuple[int | None, ...] | None], boxes: list[str] | None) -> str:
    """Finds the output that a task reads.

    Args:
        task: One of `TASKS`.
        shapes: Shape of each of the model's outputs, by name.
        boxes: The outputs of a detector, or None.

    Returns:
        The output's name.

    Raises:
        ValueError: The model isn't one for the task; the message says what it puts out, and what the task takes.
    """
    if (task == "detect") != bool(boxes):
        raise ValueError(f"the model {'is' if boxes else 'is not'} a detector; {_outputs_of(shapes)}. {_WANTED[task]}")
    if boxes:
        return boxes[0]
    names = {"classify": "probabilities", "segment": "class_map", "embed": FEATURES}
    if names[task] in shapes and _ranks(shapes[names[task]]) & _RANKS[task]:
        return names[task]
    strangers = set(names.values()) & shapes.keys()
    fitting = [name for name, shape in shapes.items() if _ranks(shape) & _RANKS[task]]
    if strangers or len(shapes) != 1 or not fitting:
        raise ValueError(f"the model is not one for --task={task}: {_outputs_of(shapes)}. {_WANTED[task]}")
    return fitting[0]


_RANKS = {"classify": {2}, "segment": {3, 4}, "embed": {2, 4}}
_WANTED = {
    "classify": "classify takes scores [N, classes], called `probabilities` or alone.",
    "detect": f"detect takes an exported km.SSDLite, or a .tflite file that ends in {tasks.DETECTION_OPERATOR}.",
    "segment": "segment takes `class_map` [N, H, W], or one output [N, H, W(, classes)].",
    "embed": "embed takes `features` [N, D] or [N, H, W, D], or one such output: export a network with "
    'include_top=False, pooling="avg".',
}


def _ranks(shape: tuple[int | None, ...] | None) -> set[int]:
    return {2, 3, 4} if shape is None else {len(shape)}


def _outputs_of(shapes: Mapping[str, tuple[int | None, ...] | None]) -> str:
    return "it puts out " + ", ".join(f"{name} {list(shape or ())}" for name, shape in sorted(shapes.items()))


def _pooled(features: np.ndarray) -> np.ndarray:
    """The mean over positions of a feature map [H, W, D]; features [D] as they are."""
    return features.mean((0, 1)) if features.ndim == 3 else features


def png(mask: np.ndarray) -> bytes:
    """Encodes class numbers [H, W], up to 255, as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def as_json(row: Row) -> Row:
    """A row with bytes as base64 text."""
    return {name: base64.b64encode(v).decode() if isinstance(v, bytes) else v for name, v in row.items()}
