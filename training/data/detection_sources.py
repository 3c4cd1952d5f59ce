"""One door to all data sets with boxes: `load_boxes("shapes")`, `load_boxes("coco_json", ...)`, `load_boxes("voc")`."""

import os
from collections.abc import Mapping
from typing import Any

from training.data.coco_json import load_coco_json
from training.data.pictures import Source, hold_out
from training.data.shapes import load_shapes
from training.data.tfds_boxes import load_tfds_boxes


def load_boxes(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    patterns: Mapping[str, str] | None = None,
    validation_share: float = 0.1,
    **others: Any,
) -> Source:
    """Opens a data set of pictures with boxes.

    Args:
        name: `shapes` (embedded), `coco_json` (JSON and pictures under `data_dir`), or the name of a
            tensorflow-datasets data set with boxes (`coco/2017`, `voc/2012`).
        data_dir: where the pictures are; for tensorflow-datasets its own data folder.
        patterns: only `coco_json`: JSON file of each split, see `load_coco_json`.
        validation_share: share of the training pictures that becomes the split `validation` where the data set has
            none; 0 for no such split.
        **others: what belongs to other kinds of data set; nothing or zero here.

    Returns:
        The source; labels are `Boxes`.

    Raises:
        ValueError: an argument that is missing or does not belong to this kind of data set, or an unknown name.
        FileNotFoundError: the folder or a file does not exist.
        ConnectionError: the data set is not prepared under `data_dir` and cannot be downloaded.

    Example:
        >>> from training.data.detection_sources import load_boxes
        >>> {split: part.count for split, part in load_boxes("shapes").splits.items()}
        {'train': 512, 'validation': 64, 'test': 64}
    """
    foreign = sorted(option for option, value in others.items() if value)
    if foreign or (patterns and name != "coco_json"):
        wrong = foreign[0] if foreign else "patterns"
        raise ValueError(f"{wrong} does not belong to the data set {name!r} of pictures with boxes: leave it out.")
    if name == "shapes":
        source = load_shapes()
    elif name == "coco_json":
        if data_dir is None:
            raise ValueError("The data set 'coco_json' needs data_dir, the folder of the JSON files and the pictures.")
        source = load_coco_json(data_dir, patterns)
    elif name in ("digits", "folder", "tfrecord"):
        raise ValueError(
            f"{name!r} has no boxes. Allowed are shapes, coco_json, and coco or voc of tensorflow-datasets."
        )
    else:
        source = load_tfds_boxes(name, data_dir)
    return hold_out(source, validation_share)
