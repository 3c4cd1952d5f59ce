import numpy as np
import pytest
import tensorflow as tf

from tests.training.data.conftest import photo
from training import data
from training.data import boxes
from training.data.boxes import Boxes, BoxInput
from training.data.pictures import Memory, whole

MARK = np.array([255, 0, 0])


def marked(seed):
    """A grey picture with a red rectangle, and the box around it."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(60, 120, 2)
    top, left = generator.integers(0, 30, 2)
    bottom, right = top + generator.integers(15, 30), left + generator.integers(15, 30)
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[top:bottom, left:right] = MARK
    corners = [top / height, left / width, bottom / height, right / width]
    return tf.io.encode_png(pixels).numpy(), Boxes.of([corners], [seed % 2], size=(int(height), int(width)))


@pytest.fixture(scope="module")
def split():
    encoded, labels = zip(*(marked(seed) for seed in range(12)), strict=True)
    return whole("train", ("even", "odd"), Memory("marked", encoded, labels))


def red(image):
    """The box around what is red, ymin, xmin, ymax, xmax as shares."""
    rows, columns = np.nonzero((image[..., 0] > 0.6) & (image[..., 1] < -0.5))
    height, width = image.shape[:2]
    return rows.min() / height, columns.min() / width, (rows.max() + 1) / height, (columns.max() + 1) / width


CONFIG = BoxInput((96, 96), 4, seed=3, evaluation_crop=None)


def test_boxes_without_area_are_left_out_and_cut_at_the_edges():
    found = Boxes.of([[-0.1, 0.2, 0.5, 1.3], [0.3, 0.3, 0.3, 0.6], [1.2, 0, 1.5, 0.4]], [4, 5, 6], [1, 0, 0])
    np.testing.assert_allclose(found.corners, [[0, 0.2, 0.5, 1]])
    assert found.classes.tolist() == [4]
    assert found.crowd.tolist() == [True]


@pytest.mark.parametrize("crop", [False, True])
def test_boxes_follow_their_objects(split, crop):
    config = BoxInput((96, 96), 4, seed=3, evaluation_crop=None, crop=crop)
    seen = 0
    for images, labels in boxes.batches(split, config, training=True, steps=12).as_numpy_iterator():
        for image, corners, classes in zip(images, labels["boxes"], labels["classes"], strict=True):
            if classes[0] >= 0:
                seen += 1
                np.testing.assert_allclose(corners[0], red(image), atol=0.03)
            assert (classes[1:] == -1).all()
    assert seen == 48 if not crop else seen > 36


def test_half_of_the_pictures_are_mirrored(split):
    config = CONFIG
    left = [labels["boxes"][:, 0, 1] for _, labels in boxes.batches(split, config, training=False)]
    changed = [labels["boxes"][:, 0, 1] for _, labels in boxes.batches(split, config, training=True, steps=24)]
    plain = np.isin(np.round(np.concatenate(changed), 4), np.round(np.concatenate(left), 4))
    assert 30 < plain.sum() < 66


def test_a_step_is_the_same_wherever_the_run_began(split):
    config = BoxInput((32, 32), 4, seed=5, evaluation_crop=None, crop=True)
    whole_run = list(boxes.batches(split, config, training=True, steps=6).as_numpy_iterator())
    rest = list(boxes.batches(split, config, training=True, start_step=4, steps=2).as_numpy_iterator())
    for (images, labels), (other, other_labels) in zip(whole_run[4:], rest, strict=True):
        np.testing.assert_array_equal(images, other)
        np.testing.assert_array_equal(labels["boxes"], other_labels["boxes"])
    assert not np.array_equal(whole_run[0][0], whole_run[3][0])


def test_workers_share_a_batch(split):
    config = BoxInput((32, 32), 4, seed=5, evaluation_crop=None, crop=True)
    (alone, _), *_ = boxes.batches(split, config, training=True, steps=1).as_numpy_iterator()
    parts = [
        next(iter(boxes.batches(split, config, training=True, steps=1, num_workers=2, worker=worker)))[0]
        for worker in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), alone)


def test_pictures_in_memory_are_the_same(split):
    kept, bad = data.verify(split, cache=True)
    assert bad == ()
    for one, other in zip(
        boxes.batches(split, CONFIG, training=True, steps=2),
        boxes.batches(kept, CONFIG, training=True, steps=2),
        strict=True,
    ):
        np.testing.assert_array_equal(one[0], other[0])


def test_evaluation_gives_every_picture_once_in_order(split):
    batches = list(boxes.batches(split, BoxInput((32, 32), 5, evaluation_crop=None), training=False))
    assert [len(images) for images, _ in batches] == [5, 5, 2]
    classes = np.concatenate([labels["classes"][:, 0] for _, labels in batches])
    assert classes.tolist() == [0, 1] * 6


def test_crowds_are_not_trained_on():
    picture = tf.io.encode_png(photo(0)).numpy()
    label = Boxes.of([[0, 0, 0.5, 0.5], [0, 0, 1, 1]], [0, 1], [False, True])
    split = whole("train", ("a", "b"), Memory("crowd", [picture], [label]))
    (_, labels), *_ = boxes.batches(split, BoxInput((32, 32), 1, evaluation_crop=None), training=False)
    assert labels["classes"][0, :2].numpy().tolist() == [0, -1]
