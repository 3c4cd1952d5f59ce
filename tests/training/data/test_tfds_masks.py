import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.training.data.conftest import photo
from training.data.mask_sources import load_masks
from training.data.masks import read_mask
from training.data.tfds_masks import KNOWN


class SmallMasks(tfds.core.GeneratorBasedBuilder):
    """Pictures with masks as in tensorflow-datasets' `oxford_iiit_pet`, prepared by tensorflow-datasets itself."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1), use_colormap=True),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(1, 5))}

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, {"image": photo(number), "label": 0, "segmentation_mask": mask(number)}


def mask(number):
    return np.random.default_rng(number).integers(1, 4, (4, 6, 1)).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_masks_of_a_prepared_data_set(tmp_path, file_format, monkeypatch):
    SmallMasks(data_dir=tmp_path, file_format=file_format).download_and_prepare()
    (tmp_path / "labels.txt").write_text("none\nfirst\nsecond\nthird\n")
    source = load_masks("small_masks", tmp_path, labels_file=tmp_path / "labels.txt", validation_share=0)
    assert source.class_names == ("none", "first", "second", "third")
    found = {read_mask(source["train"].read(index)[1]).tobytes() for index in range(4)}
    assert found == {mask(number).tobytes() for number in range(1, 5)}
    monkeypatch.setitem(KNOWN, "small_masks", KNOWN["oxford_iiit_pet"])  # whose classes are counted from 1
    source = load_masks("small_masks", tmp_path, validation_share=0)
    assert source.class_names == ("pet", "background", "border")
    found = {read_mask(source["train"].read(index)[1]).tobytes() for index in range(4)}
    assert found == {(mask(number) - 1).tobytes() for number in range(1, 5)}


def test_what_is_missing_is_said(tmp_path):
    SmallMasks(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(ValueError, match="no names of classes: give --labels_file"):
        load_masks("small_masks", tmp_path)
    with pytest.raises(ValueError, match="is no data set of pictures with masks"):
        load_masks("cifar10", tmp_path)
