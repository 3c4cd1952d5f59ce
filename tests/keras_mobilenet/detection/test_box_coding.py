import numpy as np

from keras_mobilenet.detection import Anchors, box_coding, decode, encode


def random_boxes(count, seed=0):
    generator = np.random.default_rng(seed)
    first = generator.uniform(0, 0.6, (count, 2))
    return np.concatenate([first, first + generator.uniform(0.05, 0.4, (count, 2))], 1).astype(np.float32)


def test_known_encoding():
    # A box 0.1 below the anchor's centre, as high as it and twice as wide.
    encoded = encode([0.4, 0.2, 0.8, 0.6], [0.5, 0.4, 0.4, 0.2])
    np.testing.assert_allclose(encoded, [10 * 0.1 / 0.4, 0, 0, 5 * np.log(2)], atol=1e-5)


def test_decoding_is_the_inverse():
    boxes, anchors = random_boxes(54), Anchors((3,)).boxes[:27]
    anchors = np.concatenate([anchors, anchors])
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-5)


def test_an_anchor_is_its_own_encoding_of_zeros():
    anchors = Anchors((4, 2)).boxes
    np.testing.assert_allclose(encode(box_coding.corners(anchors), anchors), 0, atol=1e-4)


def test_a_box_without_area_stays_finite():
    assert np.isfinite(encode([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2])).all()
