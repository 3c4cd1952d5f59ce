"""Mean IoU beside Keras's metric; scales and flips; Coral's DeepLab on real pictures, by LiteRT and as our model."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_mobilenet as km
from keras_mobilenet import segmentation

DM05 = "deeplabv3_mnv2_dm05_pascal_quant.tflite"


def test_mean_iou_is_that_of_keras():
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 6, (4, 9, 7)), rng.integers(0, 6, (4, 9, 7))
    labels[rng.uniform(size=labels.shape) < 0.2] = segmentation.VOID
    found[found == 4] = 3  # a class that is never found
    peer = keras.metrics.MeanIoU(7, ignore_class=segmentation.VOID)  # and one that is not even there
    peer.update_state(labels, found)
    counts = sum(segmentation.confusion(mask, classes, 7) for mask, classes in zip(labels, found, strict=True))
    assert segmentation.mean_iou(counts) == pytest.approx(float(peer.result()))
    values = segmentation.intersection_over_union(counts)
    assert values[4] == 0 and np.isnan(values[6])


def test_void_counts_for_nothing():
    counts = segmentation.confusion(np.array([[0, 1, 255]]), np.array([[0, 0, 1]]), 2)
    assert counts.tolist() == [[1, 0], [1, 0]]
    assert segmentation.mean_iou(counts) == 0.25
    assert np.isnan(segmentation.mean_iou(counts * 0))


@pytest.mark.parametrize(
    ("labels", "found", "message"),
    [
        ([[0, 3]], [[0, 0]], "`labels` holds classes from 0 to 3; with `classes=3`"),
        ([[0, 1]], [[0, 255]], "`class_map` holds classes from 0 to 255"),
        ([[0, -1]], [[0, 0]], "`labels` holds classes from -1"),
        ([0, 1], [[0, 1]], "the same"),
    ],
)
def test_wrong_classes(labels, found, message):
    with pytest.raises(ValueError, match=message):
        segmentation.confusion(labels, found, 3)


def test_a_picture_is_padded_or_shrunk():
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    padded, inside = segmentation.fit(picture, (65, 65))
    assert inside == (30, 40) and np.array_equal(padded[:30, :40], picture)
    assert np.all(padded[30:] == 127.5) and np.all(padded[:, 40:] == 127.5)
    padded, inside = segmentation.fit(picture, (32, 20))
    assert inside == (15, 20) and padded.shape == (32, 20, 3) and np.all(padded[15:] == 127.5)
    expected = Image.fromarray(picture).resize((20, 15), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(padded[:15], np.asarray(expected), atol=1)


def network(**options):
    keras.utils.set_random_seed(0)
    model = km.DeepLabV3(**{"backbone": "mobilenet_v1", "alpha": 0.1, "image_size": (33, 49), "classes": 4} | options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures(), training=True)
    return model


def pictures():
    return np.random.default_rng(0).uniform(-1, 1, (2, 33, 49, 3)).astype("float32")


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_one_scale_is_the_model_itself():
    model = network()
    answer = segmentation.multi_scale(model, (1.0,), flip=False)(pictures())
    np.testing.assert_allclose(answer, softmax(model(pictures()).numpy()), atol=1e-4)
    both = segmentation.multi_scale(model, (1.0,))(pictures())
    mirrored = softmax(model(pictures()[:, :, ::-1]).numpy())[:, :, ::-1]
    np.testing.assert_allclose(both, (answer.numpy() + mirrored) / 2, atol=1e-4)


@pytest.mark.slow
def test_scales_are_averaged():
    model, opened = network(), network(image_size=None)
    opened.set_weights(model.get_weights())
    answer = segmentation.multi_scale(model, (0.5, 1.0, 1.5), flip=False)(pictures()).numpy()
    expected = 0
    for side in ((17, 25), (33, 49), (49, 73)):
        resized = segmentation._resized(pictures(), side)
        scores, _ = segmentation.with_scores(opened)(resized)
        expected += softmax(segmentation._resized(scores, (33, 49)).numpy()) / 3
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    assert answer.std() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([],), r"scales=\[\]"), (((1.0, 0.0),), "scales="), (None, "is no segmenter")],
)
def test_wrong_arguments(arguments, message):
    model = network() if arguments else km.MobileNetV1(alpha=0.1, include_top=False)
    with pytest.raises(ValueError, match=message):
        segmentation.multi_scale(model, *(arguments or ()))


@pytest.mark.slow
def test_corals_mean_iou_on_coco128(shared_data):
    """Over the same 100 pictures, by LiteRT and dequantized, within a point: the data's README has 39.3."""
    predictor = km.Predictor(shared_data / "weights" / DM05, threads=2)
    model = km.DeepLabV3(alpha=0.5, weights=shared_data / "weights" / DM05)
    theirs = ours = np.zeros((21, 21), np.int64)
    folder = shared_data / "coco128" / "val"
    for path in sorted((folder / "masks_voc21").iterdir()):
        mask = np.asarray(Image.open(path))
        picture = np.asarray(Image.open(folder / "images" / f"{path.stem}.jpg").convert("RGB"))
        padded, (height, width) = segmentation.fit(picture, (513, 513))
        assert (height, width) == mask.shape
        (found,) = predictor.predict(np.rint(padded).astype(np.uint8)[None]).values()
        theirs = theirs + segmentation.confusion(mask, found[0, :height, :width], 21)
        logits = model.predict_on_batch(km.preprocess_input(padded)[None])
        ours = ours + segmentation.confusion(mask, logits[0, :height, :width].argmax(-1), 21)
    figures = segmentation.mean_iou(theirs), segmentation.mean_iou(ours)
    print("mean IoU by LiteRT and by Keras:", figures)
    assert figures[0] == pytest.approx(0.393, abs=0.01)
    assert figures[1] == pytest.approx(figures[0], abs=0.01)
