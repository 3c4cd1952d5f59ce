"""Pictures with masks of tensorflow-datasets, such as `oxford_iiit_pet`."""

import io
import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from keras_mobilenet.segmentation import VOID
from training.data import tfds as labelled
from training.data.masks import read_mask
from training.data.pictures import Source, whole
from training.data.records import Records, read_class_names

FEATURES = ("segmentation_mask", "segmentation_label")
"""What data sets call the mask."""


@dataclass(frozen=True)
class Kind:
    """What a data set does not say of its masks: names of the classes, and the number of the first one."""

    names: tuple[str, ...]
    first: int


KNOWN = {"oxford_iiit_pet": Kind(("pet", "background", "border"), 1)}


@dataclass(frozen=True)
class MaskExamples:
    """Prepared examples with a picture and a mask.

    Attributes:
        records: the examples.
        image_key: feature with the encoded picture.
        mask_key: feature with the encoded mask.
        first: number of the first class in the masks; lower ones count for no class.
    """

    records: Records | labelled.ArrayRecords = field(repr=False)
    image_key: str
    mask_key: str
    first: int

    def __len__(self) -> int:
        return len(self.records)

    def read(self, number: int) -> tuple[bytes, bytes]:
        """The encoded picture and the encoded mask, its classes counted from 0."""
        features = self.records.features(number)
        mask = features[self.mask_key].bytes_list.value[0]
        return features[self.image_key].bytes_list.value[0], _from_zero(mask, self.first) if self.first else mask

    def where(self, number: int) -> str:
        """Where the record lies."""
        return self.records.where(number)

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return self.records.fingerprint()


def load_tfds_masks(
    name: str, data_dir: str | os.PathLike | None = None, labels_file: str | os.PathLike | None = None
) -> Source:
    """A data set of pictures with masks from tensorflow-datasets, downloaded and prepared where that was not done.

    Args:
        name: as tensorflow-datasets writes it: `oxford_iiit_pet`.
        data_dir: folder of prepared data sets; `~/tensorflow_datasets` by default.
        labels_file: text file of class names, one a line; data sets other than those of `KNOWN` need it.

    Returns:
        The source; labels are encoded masks.

    Raises:
        ValueError: no such data set, one without a picture and a mask to an example, or without names of classes.
        ConnectionError: it is not prepared under `data_dir`, and could not be downloaded and prepared.
    """
    tfds = labelled.installed()
    builder = labelled.open_builder(tfds, name, data_dir)
    image, mask = _keys(tfds, builder)
    kind = KNOWN.get(builder.name)
    if labels_file is not None:
        kind = Kind(read_class_names(labels_file), kind.first if kind else 0)
    if kind is None:
        raise ValueError(f"The masks of {builder.info.full_name} have no names of classes: give --labels_file.")
    labelled.prepare(builder)
    splits = {}
    for split in builder.info.splits:
        examples = MaskExamples(labelled.examples(builder, split, image, mask), image, mask, kind.first)
        splits[split] = whole(split, kind.names, examples)
    return Source(builder.info.full_name, kind.names, splits)


def _keys(tfds: ModuleType, builder: Any) -> tuple[str, str]:
    features = dict(builder.info.features.items())
    masks = [key for key in FEATURES if key in features]
    images = [k for k, kind in features.items() if isinstance(kind, tfds.features.Image) and k not in FEATURES]
    preferred = [key for key in images if key in ("image", "image_left")] or images
    if len(masks) != 1 or len(preferred) != 1:
        raise ValueError(
            f"{builder.info.full_name} is no data set of pictures with masks: an example has the features "
            f"{sorted(features)}, where an Image and {' or '.join(FEATURES)} are needed."
        )
    return preferred[0], masks[0]


def _from_zero(contents: bytes, first: int) -> bytes:
    values = read_mask(contents).astype(np.int32)
    shifted = np.where((values < first) | (values == VOID), VOID, values - first)
    stream = io.BytesIO()
    Image.fromarray(shifted.astype(np.uint8)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
