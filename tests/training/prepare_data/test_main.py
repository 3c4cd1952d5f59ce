import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("apache_beam", reason="preparing data needs apache-beam")

import apache_beam as beam
import tensorflow as tf

import keras_mobilenet as km
from training import data
from training.data.folder import load_folder
from training.prepare_data import listing, pictures, pipeline
from training.prepare_data.listing import Shares
from training.prepare_data.pictures import BadPicture
from training.prepare_data.pipeline import Plan

ROOT = Path(__file__).parents[3]
LABELS = "labels.txt"


def photo(seed, size=(90, 60)):
    values = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """40 pictures of two classes, one of them twice, one in both classes, and a broken one."""
    for number in range(40):
        path = tmp_path / "in" / ("cat", "dog")[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path, quality=90)
    cats, dogs = tmp_path / "in" / "cat", tmp_path / "in" / "dog"
    (cats / "again.jpg").write_bytes((cats / "00.jpg").read_bytes())
    (dogs / "stray.jpg").write_bytes((cats / "02.jpg").read_bytes())
    (dogs / "broken.jpg").write_bytes((dogs / "01.jpg").read_bytes()[:500])
    return tmp_path / "in"


def prepare(folder, output, short_side=30, shares=None):
    output.mkdir()
    source = load_folder(folder)
    count = listing.write(source, output / "listing.jsonl")
    plan = Plan(output / "listing.jsonl", count, output, source.class_names, shares or Shares(0.2, 0.2), short_side, 95)
    with beam.Pipeline() as made:
        pipeline.build(made, plan)
    (output / LABELS).write_text("\n".join(source.class_names))


def stored(output):
    """What training reads: (split, label, picture) by file name."""
    source = data.load("tfrecord", output, labels_file=LABELS)
    found = {}
    for name, split in source.splits.items():
        for index in range(split.count):
            features = split.pictures.features(index)
            contents, label = split.read(index)
            key = features["image/filename"].bytes_list.value[0].decode()
            assert key not in found
            found[key] = (name, label, contents)
            shape = tf.io.decode_jpeg(contents).shape
            assert (features["image/height"].int64_list.value[0], features["image/width"].int64_list.value[0]) == shape[
                :2
            ]
    return source, found


def test_records_that_training_reads(folder, tmp_path):
    prepare(folder, tmp_path / "out")
    source, found = stored(tmp_path / "out")
    expected = {f"{path.parent.name}/{path.name}" for path in folder.rglob("*.jpg")}
    expected -= {"cat/02.jpg", "dog/stray.jpg", "dog/broken.jpg", "cat/again.jpg"}
    assert set(found) == expected and source.class_names == ("cat", "dog")
    shares = Shares(0.2, 0.2)
    for name, (split, label, contents) in found.items():
        original = (folder / name).read_bytes()
        assert split == shares.split(hashlib.sha256(original).hexdigest())
        assert source.class_names[label] == name.partition("/")[0]
        wanted = km.resize(km.decode_image(original), (30, 45)).numpy()
        assert np.abs(tf.io.decode_jpeg(contents).numpy() - wanted).mean() < 4  # what JPEG at 95 costs
    kept = [json.loads(line) for line in (tmp_path / "out" / "duplicates.jsonl").read_text().splitlines()]
    assert {one["kept"] and Path(one["kept"]).name: [Path(path).name for path in one["dropped"]] for one in kept} == {
        "00.jpg": ["again.jpg"],
        None: ["02.jpg", "stray.jpg"],
    }
    (broken,) = map(json.loads, (tmp_path / "out" / "unreadable.jsonl").read_text().splitlines())
    assert broken["path"].endswith("broken.jpg") and "truncated" in broken["reason"] and "[[" not in broken["reason"]


def test_the_order_is_mixed(folder, tmp_path):
    prepare(folder, tmp_path / "out", shares=Shares(0, 0))
    order = list(stored(tmp_path / "out")[1])
    labels = np.array([name.startswith("dog") for name in order])
    assert order != sorted(order)
    assert 5 < (labels[1:] != labels[:-1]).sum() < 33  # neither class by class nor in turns


def test_a_folder_that_is_divided_stays_so(folder, tmp_path):
    divided = tmp_path / "divided"
    for split, classes in {"train": folder, "val": folder}.items():
        for path in sorted(classes.rglob("[0-9]*.jpg"))[0 if split == "train" else 20 :: 2]:
            target = divided / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    prepare(divided, tmp_path / "out")
    _, found = stored(tmp_path / "out")
    trained = {path.name for path in (divided / "train").rglob("*.jpg")}
    # A picture of both splits remains one to train on.
    assert all((split == "train") == (Path(name).name in trained) for name, (split, _, _) in found.items())


def test_small_jpegs_are_kept_and_others_encoded(tmp_path):
    photo(0).save(tmp_path / "small.jpg")
    photo(0).save(tmp_path / "small.png")
    jpeg, png = (tmp_path / f"small.{end}" for end in ("jpg", "png"))
    assert pictures.shrink(jpeg.read_bytes(), 60, 95) == (jpeg.read_bytes(), 60, 90)
    encoded, *size = pictures.shrink(png.read_bytes(), 100, 95)
    assert encoded.startswith(b"\xff\xd8\xff") and size == [60, 90]
    assert pictures.shrink(jpeg.read_bytes(), 20, 95)[1:] == (20, 30)
    with pytest.raises(BadPicture, match="no picture of a known kind"):
        pictures.shrink(b"text", 20, 95)


def test_shares():
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
    splits = [Shares(0.1, 0.2).split(digest) for digest in digests]
    assert abs(splits.count("validation") - 200) < 60 and abs(splits.count("test") - 400) < 80
    with pytest.raises(ValueError, match="nothing to train on"):
        Shares(0.5, 0.5)


@pytest.mark.slow
def test_the_program_and_a_training_run(folder, tmp_path):
    def program(name, *flags):
        return subprocess.run(
            [sys.executable, "-m", f"training.{name}", *flags], cwd=ROOT, capture_output=True, text=True
        )

    flags = [f"--data_dir={folder}", f"--output_dir={tmp_path / 'out'}", "--short_side=40", "--validation_share=0.3"]
    (tmp_path / "out.unfinished").mkdir()
    (tmp_path / "out.unfinished" / "listing.jsonl").write_text("what a killed run left")
    done = program("prepare_data", *flags)
    assert done.returncode == 0, done.stderr
    assert "pictures 43" in done.stdout and "unreadable 1" in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["train"] + report["validation"] + report["test"] == 39 and report["duplicates"] == 3
    assert not (tmp_path / "out.unfinished").exists()
    again = program("prepare_data", *flags)
    assert again.returncode == 1 and "exists: name a new folder" in again.stderr
    trained = program(
        "train", "--dataset=tfrecord", f"--data_dir={tmp_path / 'out'}", "--labels_file=labels.txt", "--alpha=0.35",
        "--image_size=32", "--batch_size=8", "--epochs=1", f"--output_dir={tmp_path / 'run'}",
        f"--export_dir={tmp_path / 'export'}",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr[-3000:]
