import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.training.data.conftest import photo
from training.data.detection_sources import load_boxes


class SmallObjects(tfds.core.GeneratorBasedBuilder):
    """Pictures with objects as in tensorflow-datasets' `coco` and `voc`, prepared by tensorflow-datasets itself."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "is_crowd": np.bool_,
        }
        features = {"image": tfds.features.Image(), "objects": tfds.features.Sequence(objects), "image/id": np.int64}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(6)), "test": self._generate_examples(range(1))}

    def _generate_examples(self, numbers):
        for number in numbers:
            boxes = [
                {"bbox": tfds.features.BBox(0.1, 0.2, 0.5, 0.5 + k / 8), "label": k % 2, "is_crowd": k == 2}
                for k in range(number)
            ]
            yield number, {"image": photo(number), "objects": boxes, "image/id": number}


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_objects_of_a_prepared_data_set(tmp_path, file_format):
    builder = SmallObjects(data_dir=tmp_path, file_format=file_format)
    builder.download_and_prepare()
    source = load_boxes("small_objects", tmp_path, validation_share=0)
    assert source.class_names == ("cat", "dog")
    assert list(source.splits) == ["train"]  # that of the others has no boxes
    seen = set()
    for index in range(6):
        _, boxes = source["train"].read(index)
        count = len(boxes.classes)
        seen.add(count)
        expected = [[0.1, 0.2, 0.5, 0.5 + k / 8] for k in range(count)]
        np.testing.assert_allclose(boxes.corners, np.reshape(expected, (-1, 4)), atol=1e-6)
        assert boxes.classes.tolist() == [k % 2 for k in range(count)]
        assert boxes.crowd.tolist() == [k == 2 for k in range(count)]
    assert seen == set(range(6))


def test_a_data_set_without_boxes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no data set of pictures with boxes"):
        load_boxes("cifar10", tmp_path)
