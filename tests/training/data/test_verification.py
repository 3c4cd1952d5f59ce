import json

import numpy as np
import pytest
import tensorflow as tf

from tests.training.data.conftest import jpeg, photo, write_records
from training import data
from training.data.folder import load_folder


@pytest.fixture
def broken(make_folder):
    """Twelve pictures, four of them bad, each in its own way."""
    root = make_folder({"train/cat": 6, "train/dog": 6})
    (root / "train/cat/1.jpg").write_bytes(b"")
    (root / "train/cat/4.jpg").write_bytes(b"no picture at all, though it ends in jpg")
    (root / "train/dog/0.jpg").write_bytes(jpeg(1)[:300])
    (root / "train/dog/5.jpg").unlink()
    (root / "train/dog/5.jpg").symlink_to(root / "gone.jpg")
    return load_folder(root)["train"]


BAD = ["train/cat/1.jpg", "train/cat/4.jpg", "train/dog/0.jpg", "train/dog/5.jpg"]


@pytest.mark.parametrize("cache", [False, True])
def test_bad_pictures_are_counted_named_and_left_out(broken, cache):
    checked, bad = data.verify(broken, max_bad_share=0.4, cache=cache)
    assert checked.count == 8
    assert [picture.name.split("pictures/")[1] for picture in bad] == BAD
    reasons = [picture.reason for picture in bad]
    assert "empty" in reasons[0]
    assert "JPEG, PNG, BMP or GIF" in reasons[1]
    assert "truncated" in reasons[2]
    assert "No such file" in reasons[3]
    config = data.Input((32, 32), 4, evaluation_crop=None)
    seen = sum(len(labels) for _, labels in data.batches(checked, config, training=False))
    assert seen == 8


def test_more_than_the_share_stops_with_the_list(broken):
    with pytest.raises(data.BadPicturesError, match=r"4 of the 12 .*33\.3%.*max_bad_share=0\.1") as caught:
        data.verify(broken, max_bad_share=0.1)
    assert len(caught.value.bad) == 4
    for name in BAD:
        assert name in str(caught.value)


def test_a_share_that_is_just_reached_is_allowed(broken):
    assert len(data.verify(broken, max_bad_share=4 / 12)[1]) == 4


def test_no_good_picture_is_never_allowed(make_folder):
    root = make_folder({"train/cat": 1})
    (root / "train/cat/0.jpg").write_bytes(b"x")
    with pytest.raises(data.BadPicturesError):
        data.verify(load_folder(root)["train"], max_bad_share=1.0)


def test_a_label_without_a_class_is_bad(tmp_path):
    write_records(tmp_path / "train.tfrecord", [(jpeg(0), 0), (jpeg(1), 2), (jpeg(2), 1), (jpeg(3), -1)])
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    source = data.load("tfrecord", tmp_path, labels_file="names.txt", validation_share=0)
    checked, bad = data.verify(source["train"], max_bad_share=0.5)
    assert [(picture.index, picture.reason) for picture in bad] == [
        (1, "label 2, and there are 2 class names"),
        (3, "label -1, and there are 2 class names"),
    ]
    assert [checked.read(index)[1] for index in range(2)] == [0, 1]


def test_the_record_is_used_until_a_picture_changes(broken, tmp_path):
    record = tmp_path / "run" / "pictures.json"
    first, bad = data.verify(broken, max_bad_share=0.5, record=record)
    stored = json.loads(record.read_text())
    stored["bad"] = stored["bad"][:1]
    record.write_text(json.dumps(stored))
    assert data.verify(broken, max_bad_share=0.5, record=record)[1] == bad[:1]  # taken from the record
    (tmp_path / "pictures/train/cat/0.jpg").write_bytes(jpeg(77))
    second, again = data.verify(broken, max_bad_share=0.5, record=record)
    assert again == bad
    np.testing.assert_array_equal(first.numbers, second.numbers)
    record.write_text("{broken")
    assert data.verify(broken, max_bad_share=0.5, record=record)[1] == bad


def test_the_cache_holds_the_decoded_pictures_at_their_own_size(broken):
    checked, _ = data.verify(broken, max_bad_share=0.5, cache=True)
    decoded = checked.decoded
    assert decoded.common_shape is None
    for index in range(checked.count):
        contents, label = checked.read(index)
        expected = tf.io.decode_jpeg(contents, dct_method="INTEGER_ACCURATE").numpy()
        values = decoded.values[int(decoded.offsets[index]) : int(decoded.offsets[index + 1])].numpy()
        assert tuple(decoded.shapes[index].numpy()) == expected.shape
        np.testing.assert_array_equal(values.reshape(expected.shape), expected)
        assert int(decoded.labels[index]) == label


def test_pictures_of_one_size_say_so_and_a_small_limit_is_kept():
    digits = data.load("digits")["test"]
    assert data.verify(digits, cache=True)[0].decoded.common_shape == (8, 8, 3)
    with pytest.raises(MemoryError, match="cache_limit"):
        data.verify(digits, cache=True, cache_limit=10_000)


def test_other_formats_are_read(tmp_path):
    folder = tmp_path / "all" / "train" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(tf.io.encode_png(photo(1)).numpy())
    (folder / "b.JPG").write_bytes(jpeg(1))
    source = data.load("folder", tmp_path / "all", validation_share=0)
    assert data.verify(source["train"], max_bad_share=0)[0].count == 2


@pytest.mark.slow
def test_all_of_imagenette_is_good(imagenette):
    for split in imagenette.splits.values():
        assert data.verify(split, max_bad_share=0)[1] == ()
