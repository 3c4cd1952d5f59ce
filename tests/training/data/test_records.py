import gzip

import numpy as np
import pytest
import tensorflow as tf

from tests.training.data.conftest import jpeg, write_records
from training import data
from training.data.records import open_records, read_class_names, scan


def test_random_access_gives_the_records_that_tensorflow_reads_in_order(shared_data):
    path = str(shared_data / "train" / "cifar10_test5000.tfrecord")
    records = open_records([path])
    assert len(records) == 5000
    for number, serialized in enumerate(tf.data.TFRecordDataset(path).take(300)):
        features = tf.train.Example.FromString(serialized.numpy()).features.feature
        contents, label = records.read(number)
        assert contents == features["image/encoded"].bytes_list.value[0]
        assert label == features["image/class/label"].int64_list.value[0]


def test_several_files_are_one_behind_the_other(tmp_path):
    pictures = [(jpeg(number), number) for number in range(5)]
    write_records(tmp_path / "a", pictures[:2])
    write_records(tmp_path / "b", [])
    write_records(tmp_path / "c", pictures[2:])
    records = open_records([str(tmp_path / name) for name in "abc"], label_offset=-10)
    assert [records.read(number) for number in range(5)] == [(contents, label + 10) for contents, label in pictures]
    assert records.where(1) == f"{tmp_path / 'a'}, record 1"
    assert records.where(3) == f"{tmp_path / 'c'}, record 1"


def test_a_file_that_was_cut_short_is_named_with_the_record(tmp_path):
    path = tmp_path / "cut"
    write_records(path, [(jpeg(number), 0) for number in range(3)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cut ends inside record 2"):
        scan(str(path))
    path.write_bytes(jpeg(0))
    with pytest.raises(ValueError, match="ends inside record 0"):
        scan(str(path))


def test_a_compressed_file_is_refused(tmp_path):
    (tmp_path / "zipped").write_bytes(gzip.compress(b"abc"))
    with pytest.raises(ValueError, match="gzip"):
        scan(str(tmp_path / "zipped"))


def test_a_record_without_the_features_says_what_it_has(tmp_path):
    write_records(tmp_path / "a", [(jpeg(0), 0)])
    records = open_records([str(tmp_path / "a")], label_key="label")
    with pytest.raises(ValueError, match=r"record 0 has no single int64 value under 'label'.*image/class/label"):
        records.read(0)


def test_load_by_pattern(imagenette):
    assert {name: split.count for name, split in imagenette.splits.items()} == {"train": 9103, "validation": 3791}
    assert imagenette.class_names[1] == "n02102040"
    labels = [imagenette["validation"].read(index)[1] for index in range(0, 3791, 10)]
    assert set(labels) == set(range(10))


def test_load_with_the_default_patterns_holds_out_a_validation_split(tmp_path):
    write_records(tmp_path / "pets_train-00000.tfrecord", [(jpeg(number), number % 2) for number in range(20)])
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    source = data.load("tfrecord", tmp_path, labels_file="names.txt", validation_share=0.2)
    assert {name: split.count for name, split in source.splits.items()} == {"train": 16, "validation": 4}


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "other.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="labels_file"):
        data.load("tfrecord", tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        data.load("tfrecord", tmp_path, labels_file="absent.txt")
    with pytest.raises(ValueError, match=r"'\*\.tfr'.*names\.txt, other\.bin"):
        data.load("tfrecord", tmp_path, labels_file="names.txt", patterns={"train": "*.tfr"})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.load("tfrecord", tmp_path / "nowhere", labels_file="names.txt")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n\n", ("cat", "dog")),
        ("0 great white shark\n1 tench\n", ("great white shark", "tench")),
        ("0: tench\n1: shark\n", ("tench", "shark")),
        ("0 n01440764 0\n1 n02102040 217\n", ("n01440764", "n02102040")),
        ("3 of a kind\nfull house\n", ("3 of a kind", "full house")),
    ],
)
def test_class_names(tmp_path, text, names):
    (tmp_path / "names.txt").write_text(text)
    assert read_class_names(tmp_path / "names.txt") == names


def test_a_class_named_twice_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(ValueError, match="twice: cat"):
        read_class_names(tmp_path / "names.txt")


def test_the_scan_of_an_empty_file_is_empty(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert scan(str(tmp_path / "empty")).shape == (0, 2)
    assert scan(str(tmp_path / "empty")).dtype == np.int64
