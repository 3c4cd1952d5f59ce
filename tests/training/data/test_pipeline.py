import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from keras_mobilenet import preprocessing
from training import data
from training.data import decode
from training.data.folder import load_folder

EVERYTHING = data.Augmentation(crop_scale=(0.3, 1.0), rand_augment=2, reflect=4, mixup=0.2, cutmix=1.0)
AUGMENTATIONS = {
    "peer": data.Augmentation(reflect=4),
    "everything": EVERYTHING,
}


@pytest.fixture
def pictures(make_folder):
    return load_folder(make_folder({"train/cat": 11, "train/dog": 10}))["train"]


def config(augmentation=EVERYTHING, **changes):
    return replace(data.Input((32, 48), 8, seed=3, augmentation=augmentation), **changes)


def taken(split, settings, **where):
    found = list(data.batches(split, settings, training=True, **where).as_numpy_iterator())
    return [np.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_run_that_is_taken_up_again_goes_on_as_if_unbroken(pictures, name):
    settings = config(AUGMENTATIONS[name])
    images, labels = taken(pictures, settings, steps=7)
    assert images.shape == (7, 8, 32, 48, 3)
    for start in (1, 5):  # in the epoch's middle, and in the third epoch
        late_images, late_labels = taken(pictures, settings, start_step=start, steps=7 - start)
        np.testing.assert_array_equal(late_images, images[start:])
        np.testing.assert_array_equal(late_labels, labels[start:])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_workers_batches_are_the_batch(pictures, name, workers=4):
    settings = config(AUGMENTATIONS[name])
    whole = taken(pictures, settings, steps=3)
    parts = [taken(pictures, settings, steps=3, num_workers=workers, worker=worker) for worker in range(workers)]
    for number, expected in enumerate(whole):
        np.testing.assert_allclose(np.concatenate([part[number] for part in parts], 1), expected, atol=1e-5)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_pictures_from_memory_and_from_files_are_the_same(pictures, name):
    settings = config(AUGMENTATIONS[name])
    cached, _ = data.verify(pictures, cache=True)
    for expected, got in zip(taken(pictures, settings, steps=2), taken(cached, settings, steps=2), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_pictures_of_one_size_from_memory_and_from_files_are_the_same(imagenette):
    split = imagenette["train"].select(np.arange(0, 9000, 100))
    cached, _ = data.verify(split, cache=True)
    for size in ((96, 96), (64, 80)):
        settings = config(data.Augmentation(reflect=8), image_size=size)
        for expected, got in zip(taken(split, settings, steps=2), taken(cached, settings, steps=2), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_another_seed_gives_other_batches_and_another_process_the_same(pictures):
    images, _ = taken(pictures, config(), steps=1)
    other, _ = taken(pictures, config(seed=4), steps=1)
    assert np.abs(images - other).mean() > 0.05
    program = (
        "import sys, zlib; from training import data; from training.data.folder import load_folder\n"
        "how = data.Augmentation(crop_scale=(0.3, 1.0), rand_augment=2, reflect=4, mixup=0.2, cutmix=1.0)\n"
        "settings = data.Input((32, 48), 8, seed=3, augmentation=how)\n"
        "images, _ = next(iter(data.batches(load_folder(sys.argv[1])['train'], settings, training=True)))\n"
        "print(zlib.crc32(images.numpy().tobytes()))"
    )
    root = pictures.where(0).split("/train/")[0]
    run = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, check=True)
    assert int(run.stdout) == zlib.crc32(images[0].tobytes())


def test_an_epoch_shows_every_picture_at_most_once_and_changes_it_anew():
    digits = data.load("digits")["test"]
    settings = data.Input((8, 8), 100, augmentation=data.Augmentation(flip=False))
    images, labels = taken(digits, settings, steps=3)
    assert len(np.unique(images.reshape(300, -1), axis=0)) == 300
    by_picture = {
        tf.io.decode_png(digits.read(index)[0]).numpy().tobytes(): digits.read(index)[1] for index in range(359)
    }
    for image, label in zip(images.reshape(300, 8, 8, 3), labels.ravel(), strict=True):
        pixels = np.round((image[..., :1] + 1) * 127.5).astype(np.uint8)
        assert by_picture[pixels.tobytes()] == label


def test_values_types_and_labels(pictures):
    images, labels = taken(pictures, config(AUGMENTATIONS["peer"]), steps=1)
    assert images.dtype == np.float32 and labels.dtype == np.int64
    assert -1 <= images.min() < images.max() <= 1
    _, labels = taken(pictures, config(AUGMENTATIONS["peer"], one_hot=True), steps=1)
    assert labels.shape == (1, 8, 2) and labels.dtype == np.float32
    np.testing.assert_array_equal(labels.sum(-1), 1)
    _, labels = taken(pictures, config(), steps=4)
    np.testing.assert_allclose(labels.sum(-1), 1, atol=1e-5)
    assert ((labels > 0.01) & (labels < 0.99)).any()


def test_shapes_are_known_before_anything_is_read(pictures):
    images, labels = data.batches(pictures, config(), training=True).element_spec
    assert images.shape == (8, 32, 48, 3)
    assert labels.shape == (8, 2)
    images, labels = data.batches(pictures, config(), training=False).element_spec
    assert images.shape.as_list() == [None, 32, 48, 3]
    assert labels.shape.as_list() == [None]


@pytest.mark.parametrize("crop", [None, 224 / 256])
def test_evaluation_is_every_picture_once_in_order_as_published(pictures, crop):
    settings = config(evaluation_crop=crop)
    found = list(data.batches(pictures, settings, training=False))
    assert [len(labels) for _, labels in found] == [8, 8, 5]
    images, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    for index in range(pictures.count):
        contents, label = pictures.read(index)
        picture = preprocessing.decode_image(contents)
        if crop:
            picture = decode.crop(picture, decode.centre_box(tf.shape(picture), (32, 48), crop))
        expected = preprocessing.preprocess_input(preprocessing.resize(picture, (32, 48)))
        np.testing.assert_allclose(images[index], expected, atol=1e-6)
        assert labels[index] == label


def test_evaluation_shared_by_workers_is_every_picture_once(pictures):
    settings = config(evaluation_crop=None, batch_size=6)
    whole = [image for images, _ in data.batches(pictures, settings, training=False) for image in images.numpy()]
    for worker in range(3):
        part = [
            image
            for images, _ in data.batches(pictures, settings, training=False, num_workers=3, worker=worker)
            for image in images.numpy()
        ]
        np.testing.assert_array_equal(part, whole[worker::3])


def test_what_does_not_fit_is_refused(pictures):
    cases = {
        "allowed are 1 to 21": lambda: data.batches(pictures, config(batch_size=22), training=True),
        "3 workers": lambda: data.batches(pictures, config(), training=True, num_workers=3),
        "must be even": lambda: data.batches(pictures, config(), training=True, num_workers=8),
        "worker is 2": lambda: data.batches(pictures, config(), training=True, num_workers=2, worker=2),
        "start_step is 1": lambda: data.batches(pictures, config(), training=False, start_step=1),
        "image_size": lambda: data.Input((0, 32), 8),
        "batch_size": lambda: data.Input((32, 32), 0),
        "seed": lambda: data.Input((32, 32), 8, seed=-1),
        "evaluation_crop": lambda: data.Input((32, 32), 8, evaluation_crop=1.5),
        "reflect is 32": lambda: data.Input((32, 32), 8, augmentation=data.Augmentation(reflect=32)),
        "crop_scale": lambda: data.Augmentation(crop_scale=(0.5, 0.1)),
        "crop_ratio": lambda: data.Augmentation(crop_ratio=(0, 1)),
        "magnitude": lambda: data.Augmentation(magnitude=11),
        "mixup": lambda: data.Augmentation(mixup=-0.1),
        "no split 'dev'": lambda: data.load("digits")["dev"],
        "describe TFRecords": lambda: data.load("digits", labels_file="names.txt"),
    }
    for message, case in cases.items():
        with pytest.raises(ValueError, match=message):
            case()
