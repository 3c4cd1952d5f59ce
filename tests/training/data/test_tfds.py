import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.training.data.conftest import photo
from training import data


class SmallPets(tfds.core.GeneratorBasedBuilder):
    """Fourteen pictures, so that tensorflow-datasets itself prepares the files which are read here."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {"picture": tfds.features.Image(), "kind": tfds.features.ClassLabel(names=["cat", "dog", "owl"])}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(10)), "test": self._generate_examples(range(10, 14))}

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, {"picture": photo(number, height=20 + number), "kind": number % 3}


class OutOfReach(SmallPets):
    """A data set whose host does not answer, as none does without a network."""

    @property
    def url_infos(self):
        return dict.fromkeys(["http://localhost:9/pictures.zip"])  # nobody listens there

    def _split_generators(self, dl_manager):
        raise AssertionError("the host was tried before")


class ByHand(SmallPets):
    """A data set that its owners give only by hand, such as ImageNet."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask the owl for pets.zip."

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(len(list(dl_manager.manual_dir.iterdir()))))}


class TwoPictures(SmallPets):
    """Not what a classifier is trained on."""

    def _info(self):
        features = {"left": tfds.features.Image(), "right": tfds.features.Image()}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_prepared_data_set_is_read_at_random(tmp_path, file_format):
    builder = SmallPets(data_dir=tmp_path, file_format=file_format)
    builder.download_and_prepare()
    source = data.load("small_pets", tmp_path, validation_share=0)
    assert source.class_names == ("cat", "dog", "owl")
    assert {name: split.count for name, split in source.splits.items()} == {"train": 10, "test": 4}
    for name, split in source.splits.items():
        decoders = {"picture": tfds.decode.SkipDecoding()}
        if file_format == "tfrecord":
            expected = tfds.as_numpy(builder.as_dataset(split=name, decoders=decoders))
        else:
            expected = builder.as_data_source(split=name, decoders=decoders)
        got = [split.read(index) for index in range(split.count)]
        assert got == [(example["picture"], int(example["kind"])) for example in expected]
    checked, bad = data.verify(source["train"], cache=True)
    assert not bad
    images, labels = next(iter(data.batches(checked, data.Input((32, 32), 10), training=False)))
    assert images.shape == (10, 32, 32, 3)
    assert sorted(np.unique(labels)) == [0, 1, 2]


def test_a_missing_validation_split_is_cut_from_the_training_pictures_and_test_is_left_alone(tmp_path):
    source = data.load("small_pets", tmp_path, validation_share=0.2)
    assert {name: split.count for name, split in source.splits.items()} == {"train": 8, "validation": 2, "test": 4}


def test_without_a_network_the_ways_on_are_named(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(
        ConnectionError, match=r"(?s)out_of_reach/1\.2\.0 is not prepared.*localhost.*tfds build out_of_reach"
    ):
        data.load("out_of_reach", tmp_path)


def test_what_has_to_be_fetched_by_hand_says_how(tmp_path):
    with pytest.raises(ConnectionError, match=r"(?s)by_hand/1\.2\.0 is not prepared.*Ask the owl for pets\.zip"):
        data.load("by_hand", tmp_path)


def test_an_unknown_name_lists_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"no data set 'cifar_10'.*cifar10"):
        data.load("cifar_10", tmp_path)


def test_what_is_no_set_of_labelled_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"features \['left', 'right'\]"):
        data.load("two_pictures", tmp_path)
