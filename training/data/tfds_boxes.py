"""Pictures with boxes of tensorflow-datasets, such as `coco/2017` and `voc/2012`."""

import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from training.data import tfds as labelled
from training.data.boxes import Boxes
from training.data.pictures import Source, whole
from training.data.records import Records

LEFT_OUT = ("is_crowd", "is_difficult")
"""Features of an object that is not trained on and counts neither way in evaluation."""


@dataclass(frozen=True)
class BoxExamples:
    """Prepared examples with a picture and a list of objects.

    Attributes:
        records: the examples.
        image_key: feature with the encoded picture.
        objects_key: feature with the objects, in which `bbox` and `label` lie.
    """

    records: Records | labelled.ArrayRecords = field(repr=False)
    image_key: str
    objects_key: str

    def __len__(self) -> int:
        return len(self.records)

    def read(self, number: int) -> tuple[bytes, Boxes]:
        """The encoded picture and its boxes."""
        features = self.records.features(number)

        def values(name: str) -> list[int]:
            return list(features[f"{self.objects_key}/{name}"].int64_list.value)

        classes = values("label")
        crowd = [np.array(values(name) or [0] * len(classes), bool) for name in LEFT_OUT]
        corners = list(features[f"{self.objects_key}/bbox"].float_list.value)
        boxes = Boxes.of(corners, classes, crowd[0] | crowd[1])
        return features[self.image_key].bytes_list.value[0], boxes

    def where(self, number: int) -> str:
        """Where the record lies."""
        return self.records.where(number)

    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return self.records.fingerprint()


def load_tfds_boxes(name: str, data_dir: str | os.PathLike | None = None) -> Source:
    """A data set of pictures with boxes from tensorflow-datasets, downloaded and prepared where that was not done.

    Args:
        name: as tensorflow-datasets writes it: `coco/2017`, `voc/2012`.
        data_dir: folder of prepared data sets; `~/tensorflow_datasets` by default.

    Returns:
        The source, with those of the data set's splits that have boxes.

    Raises:
        ValueError: no such data set, or one without one picture and a list of boxes to an example.
        ConnectionError: it is not prepared under `data_dir`, and could not be downloaded and prepared.
    """
    tfds = labelled.installed()
    builder = labelled.open_builder(tfds, name, data_dir)
    image, objects = _keys(tfds, builder)
    names = tuple(builder.info.features[objects]["label"].names)
    labelled.prepare(builder)
    splits = {}
    for split in builder.info.splits:
        examples = BoxExamples(labelled.examples(builder, split, image, f"{objects}/label"), image, objects)
        # COCO's test pictures have no boxes, and of the others one in a hundred.
        if any(len(examples.read(number)[1].classes) for number in range(min(len(examples), 100))):
            splits[split] = whole(split, names, examples)
    return Source(builder.info.full_name, names, splits)


def _keys(tfds: ModuleType, builder: Any) -> tuple[str, str]:
    """Names of the one picture and the one list of objects of an example."""
    features = dict(builder.info.features.items())
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    objects = [
        key
        for key, kind in features.items()
        if isinstance(kind, tfds.features.Sequence) and {"bbox", "label"} <= set(getattr(kind.feature, "keys", set)())
    ]
    if len(images) != 1 or len(objects) != 1:
        raise ValueError(
            f"{builder.info.full_name} is no data set of pictures with boxes: an example has the features "
            f"{sorted(features)}, where one Image and one list of objects with bbox and label are needed."
        )
    return images[0], objects[0]
