import pytest
import tensorflow_datasets as tfds

from training import data
from training.data.folder import load_folder


def test_split_folders_are_what_image_folder_sees(make_folder):
    root = make_folder({"train/cat": 3, "train/dog": 2, "test/dog": 1, "test/cat": 2})
    ours, peer = load_folder(root), tfds.ImageFolder(str(root))
    assert list(ours.class_names) == peer.info.features["label"].names
    assert {name: split.count for name, split in ours.splits.items()} == {
        name: info.num_examples for name, info in peer.info.splits.items()
    }
    for name, split in ours.splits.items():
        expected = {
            (example["image/filename"].numpy().decode(), int(example["label"]))
            for example in peer.as_dataset(split=name)
        }
        assert {(split.where(index), split.read(index)[1]) for index in range(split.count)} == expected


def test_class_folders_without_splits_become_train_and_validation(make_folder):
    root = make_folder({"cat": 12, "dog": 8})
    source = data.load("folder", root, validation_share=0.2)
    assert source.class_names == ("cat", "dog")
    assert {name: split.count for name, split in source.splits.items()} == {"train": 16, "validation": 4}
    assert data.load("folder", root, validation_share=0).splits.keys() == {"train"}


def test_val_is_validation_and_hidden_folders_are_passed_over(make_folder):
    root = make_folder({"train/cat": 2, "val/cat": 1})
    (root / ".cache").mkdir()
    (root / "train" / ".thumbs").mkdir()
    assert {name: split.count for name, split in load_folder(root).splits.items()} == {"train": 2, "validation": 1}


def test_classes_called_test_or_train_among_others_are_classes(make_folder):
    assert load_folder(make_folder({"train": 2, "bus": 1})).class_names == ("bus", "train")


def test_what_does_not_fit_is_explained(tmp_path, make_folder):
    with pytest.raises(FileNotFoundError, match=r"(?s)does not exist.*train/CLASS"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        load_folder(tmp_path / "empty")
    with pytest.raises(ValueError, match="data_dir"):
        data.load("folder")
    root = make_folder({"train/cat": 1, "test/cat": 1, "test/lion": 1})
    with pytest.raises(ValueError, match="test has classes that the training pictures lack: lion"):
        load_folder(root)
    (root / "train" / "lion").mkdir()
    with pytest.raises(ValueError, match="hold no pictures: train/lion"):
        load_folder(root)
