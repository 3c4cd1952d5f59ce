import numpy as np
import tensorflow as tf
from sklearn import datasets

from training import data
from training.data.pictures import hold_out


def test_every_scan_is_in_exactly_one_split():
    source = data.load("digits")
    numbers = np.concatenate([split.numbers for split in source.splits.values()])
    assert sorted(numbers) == list(range(1797))
    assert {name: split.count for name, split in source.splits.items()} == {
        "train": 1258,
        "validation": 180,
        "test": 359,
    }


def test_the_splits_are_the_same_in_every_run_and_hold_all_classes_in_equal_shares():
    first, second = data.load("digits"), data.load("digits")
    for name, split in first.splits.items():
        np.testing.assert_array_equal(split.numbers, second[name].numbers)
        counts = np.bincount([split.read(index)[1] for index in range(split.count)])
        assert len(counts) == 10
        assert counts.max() - counts.min() <= 0.1 * split.count / 10 + 1


def test_pictures_are_the_scans_rescaled_to_0_255():
    scans, labels = datasets.load_digits(return_X_y=True)
    test = data.load("digits")["test"]
    for index in (0, 7, 358):
        contents, label = test.read(index)
        picture = tf.io.decode_png(contents).numpy()
        assert picture.shape == (8, 8, 1)
        number = test.numbers[index]
        assert label == labels[number]
        np.testing.assert_allclose(picture.ravel() * (16 / 255), scans[number], atol=0.04)


def test_holding_out_leaves_no_picture_in_both():
    source = hold_out(data.load("digits"), 0.25, name="tuning")
    train, tuning = source["train"], source["tuning"]
    assert (train.count, tuning.count) == (1258 - 314, 314)
    assert not set(train.numbers) & set(tuning.numbers)
    again = hold_out(data.load("digits"), 0.25, name="tuning")
    np.testing.assert_array_equal(again["tuning"].numbers, tuning.numbers)
