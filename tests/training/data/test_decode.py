import numpy as np
import pytest
import tensorflow as tf

from keras_mobilenet import preprocessing
from tests.training.data.conftest import jpeg, photo
from training.data import decode


@pytest.mark.parametrize(("height", "width"), [(40, 60), (33, 50)])
def test_decoding_a_part_gives_what_decoding_all_gives_there(height, width):
    """Boxes of every position against the 16-pixel blocks in which colour is stored."""
    generator = np.random.default_rng(0)
    for contents in (
        jpeg(1, height=height, width=width),
        tf.io.encode_png(photo(1, height=height, width=width)).numpy(),
    ):
        whole = preprocessing.decode_image(contents)
        np.testing.assert_array_equal(decode.decode(tf.constant(contents)), whole)
        part = tf.function(lambda source, box: decode.decode(source, lambda shape: box))
        for _ in range(200):
            (top, bottom), (left, right) = (np.sort(generator.choice(n + 1, 2, False)) for n in (height, width))
            box = tf.constant([top, left, bottom - top, right - left], tf.int32)
            np.testing.assert_array_equal(part(tf.constant(contents), box), whole[top:bottom, left:right])


def test_the_same_on_photos(shared_data):
    for path in sorted((shared_data / "imagenet" / "ccby400").glob("*.jpg"))[:20]:
        contents = tf.io.read_file(str(path))
        whole = preprocessing.decode_image(contents)
        part = decode.decode(contents, lambda shape: tf.constant((31, 57, 200, 141)))
        np.testing.assert_array_equal(part, whole[31:231, 57:198])


@pytest.mark.parametrize(
    ("shape", "size", "crop", "box"),
    [
        ((256, 256), (224, 224), 224 / 256, (16, 16, 224, 224)),
        ((480, 640), (224, 224), 224 / 256, (30, 110, 420, 420)),
        ((640, 480), (96, 96), 224 / 256, (110, 30, 420, 420)),
        ((299, 299), (128, 128), 1.0, (0, 0, 299, 299)),
        ((100, 100), (50, 100), 1.0, (25, 0, 50, 100)),
        ((1, 1), (32, 32), 224 / 256, (0, 0, 1, 1)),
    ],
)
def test_centre_box(shape, size, crop, box):
    assert tuple(decode.centre_box(tf.constant(shape), size, crop).numpy()) == box


def test_the_centre_box_resized_is_the_published_evaluation():
    """The papers' evaluation resizes the short side to 256 and cuts out the middle 224."""
    picture = tf.constant(photo(3, height=512, width=640))  # smooth, so that the order matters little
    published = preprocessing.resize(picture, (256, 320))[16:240, 48:272]
    ours = decode.resize(decode.crop(picture, decode.centre_box(tf.shape(picture), (224, 224), 224 / 256)), (224, 224))
    assert np.abs(tf.cast(ours, tf.float32) - published).max() <= 2


def test_random_boxes_stay_inside_and_keep_area_and_ratio():
    shape, boxes = tf.constant([300, 400, 3]), []
    for number in range(200):
        box = decode.random_box(shape, (0.2, 0.6), (3 / 4, 4 / 3), tf.constant([number, 1], tf.int64)).numpy()
        top, left, height, width = box
        assert top >= 0 and left >= 0 and top + height <= 300 and left + width <= 400
        assert 0.19 < height * width / (300 * 400) < 0.62
        assert 0.72 < width / height < 1.36
        boxes.append(tuple(box))
    assert len(set(boxes)) > 190
    again = decode.random_box(shape, (0.2, 0.6), (3 / 4, 4 / 3), tf.constant([7, 1], tf.int64)).numpy()
    assert tuple(again) == boxes[7]


@pytest.mark.parametrize("size", [(40, 60), (20, 30), (96, 96), (24, 96), (41, 61)])
def test_resize_is_the_shared_one(size):
    picture = tf.constant(photo(2))
    np.testing.assert_array_equal(decode.resize(picture, size), preprocessing.resize(picture, size))
