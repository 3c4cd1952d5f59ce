import numpy as np
import pytest
import tensorflow as tf

from training import data


def photo(seed, height=40, width=60):
    """A smooth random picture, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).uniform(0, 255, (5, 7, 3))
    return tf.cast(tf.image.resize(noise, (height, width)), tf.uint8).numpy()


def jpeg(seed, **size):
    return tf.io.encode_jpeg(photo(seed, **size), quality=95).numpy()


def write_records(path, examples):
    """Writes (contents, label) pairs as the TFRecords that training reads."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for contents, label in examples:
            features = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


@pytest.fixture(scope="session")
def imagenette(shared_data):
    return data.load(
        "tfrecord",
        shared_data / "train",
        patterns={"train": "imagenette96_train*", "validation": "imagenette96_val*"},
        labels_file="imagenette_labels.txt",
    )


@pytest.fixture
def make_folder(tmp_path):
    """Writes pictures of several sizes into class folders: make_folder({"train/cat": 3, "train/dog": 2})."""

    def make(counts):
        for seed, (name, count) in enumerate(counts.items()):
            folder = tmp_path / "pictures" / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_bytes(jpeg(100 * seed + number, height=30 + number, width=50))
        return tmp_path / "pictures"

    return make
