"""Pictures with masks: from folders, drawn, and of tensorflow-datasets; and what is done to both alike."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_mobilenet.segmentation import VOID
from training import data
from training.data import masks
from training.data.mask_sources import load_masks


def png(pixels, mode=None):
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Pictures whose red says the class of each pixel, and their masks; the last has a picture only."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "train" / name).mkdir(parents=True)
    for number, (height, width) in enumerate([(40, 60), (64, 64), (90, 30), (20, 20)]):
        mask = np.kron(rng.integers(0, 3, (height // 10, width // 10)), np.ones((10, 10))).astype(np.uint8)
        picture = np.stack([mask * 100, np.full_like(mask, 50), np.zeros_like(mask)], -1)
        (tmp_path / "train" / "images" / f"{number}.png").write_bytes(png(picture))
        if number < 3:
            (tmp_path / "train" / "masks" / f"{number}.png").write_bytes(png(mask))
    (tmp_path / "labels.txt").write_text("ground\ncat\ndog\n")
    return tmp_path


def config(**options):
    return masks.MaskInput(**{"image_size": (48, 48), "batch_size": 3, "seed": 3, "evaluation_crop": None} | options)


def load(folder):
    return load_masks("mask_folder", folder, labels_file="labels.txt", validation_share=0)["train"]


def test_pictures_are_padded_at_evaluation(folder):
    split = load(folder)
    assert split.class_names == ("ground", "cat", "dog") and split.count == 3
    ((images, labels),) = masks.batches(split, config(), training=False)
    assert images.shape == (3, 48, 48, 3) and labels.shape == (3, 48, 48) and labels.dtype == "int32"
    # 40 x 60 is shrunk to 32 x 48, 90 x 30 to 48 x 16.
    for index, (height, width) in enumerate([(32, 48), (48, 48), (48, 16)]):
        padding = np.ones((48, 48), bool)
        padding[:height, :width] = False
        assert np.array_equal(labels[index].numpy() == VOID, padding)
        assert np.all(images[index].numpy()[padding] == 0)


@pytest.mark.parametrize("seed", range(3))
def test_masks_follow_their_pictures(folder, seed):
    split = load(folder)
    images, labels = next(iter(masks.batches(split, config(seed=seed, batch_size=1), training=True)))
    red = (images.numpy()[..., 0] + 1) * 127.5 / 100
    counted = labels.numpy() != VOID
    assert counted.mean() > 0.05
    close = np.abs(red - labels.numpy())[counted] < 0.5  # only near edges does the resized picture lie between classes
    assert close.mean() > 0.85


def test_a_step_is_a_function_of_the_seed(folder):
    split = load(folder)
    steps = [[x.numpy() for x in batch] for batch in masks.batches(split, config(), training=True, steps=4)]
    again = next(iter(masks.batches(split, config(), training=True, start_step=2)))
    assert all(np.array_equal(one, other) for one, other in zip(again, steps[2], strict=True))
    assert not np.array_equal(steps[2][1], steps[3][1])
    other = next(iter(masks.batches(split, config(seed=4), training=True, start_step=2)))
    assert not np.array_equal(other[1], steps[2][1])
    halves = [
        next(iter(masks.batches(split, config(batch_size=2), training=True, num_workers=2, worker=worker)))[0]
        for worker in (0, 1)
    ]
    both = next(iter(masks.batches(split, config(batch_size=2), training=True)))[0]
    assert np.array_equal(np.concatenate(halves), both)


def test_decoded_pictures_give_the_same(folder):
    split = load(folder)
    cached = data.verify(split, 0.0, cache=True)[0]
    assert cached.decoded is not None
    batches = [next(iter(masks.batches(part, config(), training=True))) for part in (split, cached)]
    assert all(np.array_equal(one, other) for one, other in zip(*batches, strict=True))


def test_palettes_are_numbers_and_colours_are_refused(tmp_path):
    numbers = np.array([[0, 3], [255, 1]], np.uint8)
    image = Image.fromarray(numbers, "P")
    image.putpalette([5, 6, 7] * 256)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    assert np.array_equal(masks.read_mask(stream.getvalue()), numbers)
    with pytest.raises(ValueError, match="this picture is RGB"):
        masks.read_mask(png(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ValueError, match="can't be read"):
        masks.read_mask(stream.getvalue()[:40])


def test_drawn_shapes_have_masks():
    source = load_masks("shapes")
    assert source.class_names == ("background", "circle", "square", "triangle")
    contents, mask = source["test"].read(0)
    pixels, classes = np.asarray(Image.open(io.BytesIO(contents)), np.float32), masks.read_mask(mask)
    assert classes.shape == pixels.shape[:2] and set(np.unique(classes)) <= {0, 1, 2, 3} and classes.max() > 0
    ground = np.median(pixels[classes == 0], 0)
    assert np.abs(pixels[classes == 0] - ground).max(-1).mean() < 20  # noise alone
    assert np.abs(pixels[classes > 0] - ground).max(-1).mean() > 50
    boxes = data_with_boxes(0)
    ymin, xmin, ymax, xmax = np.rint(boxes.corners[0] * classes.shape[0]).astype(int)
    assert (classes[ymin:ymax, xmin:xmax] == boxes.classes[0] + 1).mean() > 0.4


def data_with_boxes(number):
    from training.data.shapes import load_shapes

    return load_shapes()["test"].read(number)[1]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("mask_folder", {}, ValueError, "needs data_dir"),
        ("mask_folder", {"data_dir": "."}, ValueError, "needs labels_file"),
        ("mask_folder", {"data_dir": "nowhere", "labels_file": "l"}, FileNotFoundError, "'nowhere' does not exist"),
        ("mask_folder", {"data_dir": ".", "labels_file": "no.txt"}, FileNotFoundError, "no file 'no.txt'"),
        ("shapes", {"labels_file": "l"}, ValueError, "labels_file does not belong"),
        ("shapes", {"label_offset": 1}, ValueError, "label_offset does not belong"),
        ("digits", {}, ValueError, "'digits' has no masks"),
    ],
)
def test_wrong_sources(name, options, error, message):
    with pytest.raises(error, match=message):
        load_masks(name, **options)


def test_wrong_folders(folder):
    (folder / "train" / "masks" / "9.png").write_bytes(png(np.zeros((3, 3), np.uint8)))
    with pytest.raises(FileNotFoundError, match=r"9\.png is the mask of no picture"):
        load(folder)
    (folder / "train" / "images" / "9.png").write_bytes(png(np.zeros((3, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match="3 x 3 pixels, its picture"):
        load(folder)
    with pytest.raises(FileNotFoundError, match="folder of masks"):
        load_masks("mask_folder", folder, labels_file="labels.txt", patterns={"train": "elsewhere"})


def test_the_shared_masks(shared_data):
    source = load_masks(
        "mask_folder",
        shared_data / "coco128",
        labels_file="voc21_labels.txt",
        patterns={"train": "train/masks_voc21", "validation": "val/masks_voc21"},
    )
    assert (source["train"].count, source["validation"].count, len(source.class_names)) == (100, 100, 21)
    ((images, labels),) = masks.batches(source["validation"], config(batch_size=4), training=False, steps=1)
    assert images.shape == (4, 48, 48, 3) and set(np.unique(labels)) <= {*range(21), VOID}
