"""One door to all data sets with masks: `load_masks("shapes")`, `load_masks("mask_folder", ...)`, by name."""

import os
from collections.abc import Mapping
from typing import Any

from training.data.mask_folder import load_mask_folder
from training.data.pictures import Source, hold_out
from training.data.shapes import load_shape_masks
from training.data.tfds_masks import load_tfds_masks


def load_masks(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    patterns: Mapping[str, str] | None = None,
    labels_file: str | os.PathLike | None = None,
    validation_share: float = 0.1,
    **others: Any,
) -> Source:
    """Opens a data set of pictures with a class for each pixel.

    Args:
        name: `shapes` (embedded), `mask_folder` (pictures and masks under `data_dir`), or the name of a
            tensorflow-datasets data set with masks (`oxford_iiit_pet`).
        data_dir: where the pictures are; for tensorflow-datasets its own data folder.
        patterns: only `mask_folder`: folder of masks of each split, see `load_mask_folder`.
        labels_file: text file of class names, one a line; `mask_folder` and tensorflow-datasets.
        validation_share: share of the training pictures that becomes the split `validation` where the data set has
            none; 0 for no such split.
        **others: what belongs to other kinds of data set; nothing or zero here.

    Returns:
        The source; labels are encoded masks.

    Raises:
        ValueError: an argument that is missing or does not belong to this kind of data set, or an unknown name.
        FileNotFoundError: a folder or a file does not exist.
        ConnectionError: the data set is not prepared under `data_dir` and cannot be downloaded.

    Example:
        >>> from training.data.mask_sources import load_masks
        >>> load_masks("shapes").class_names
        ('background', 'circle', 'square', 'triangle')
    """
    given = {"patterns": patterns, "labels_file": labels_file, **others}
    allowed = {"shapes": (), "mask_folder": ("patterns", "labels_file")}.get(name, ("labels_file",))
    foreign = sorted(option for option, value in given.items() if value and option not in allowed)
    if foreign:
        raise ValueError(f"{foreign[0]} does not belong to the data set {name!r} of pictures with masks: leave it out.")
    if name == "shapes":
        source = load_shape_masks()
    elif name == "mask_folder":
        missing = [option for option, value in (("data_dir", data_dir), ("labels_file", labels_file)) if value is None]
        if data_dir is None or labels_file is None:
            raise ValueError(f"The data set 'mask_folder' needs {missing[0]}: pictures, masks, and names of classes.")
        source = load_mask_folder(data_dir, patterns, labels_file)
    elif name in ("digits", "folder", "tfrecord", "coco_json"):
        raise ValueError(
            f"{name!r} has no masks. Allowed are shapes, mask_folder, and tensorflow-datasets' names of data sets with "
            "masks, such as oxford_iiit_pet."
        )
    else:
        source = load_tfds_masks(name, data_dir, labels_file)
    return hold_out(source, validation_share)
