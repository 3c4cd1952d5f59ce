import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

import apache_beam as beam
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet.runtime import Predictor
from serving.batch import artefact, inputs, pipeline, summary
from serving.batch.artefact import Wanted
from serving.batch.folder import Folder
from serving.batch.inputs import Inputs
from serving.batch.job import Job, Plan

from .jobs import link, read_bad, read_rows


@pytest.fixture(scope="module")
def photos(shared_data):
    return sorted((shared_data / "imagenet" / "ccby400").iterdir())[:24]


@pytest.fixture(scope="module")
def model(shared_data):
    return str(shared_data / "weights" / "mobilenet_v1_0.25_128_quant.tflite")


def judge(tmp_path, read, model, task="classify", **options):
    """Runs a job in this process; returns its output folder and what Beam counted."""
    found = artefact.stored(model, Wanted(task))
    job = Job(read, Wanted(task), str(tmp_path / "out"), model=model, batch_size=4, max_bad_share=0.5, **options)
    Folder(job.output).begin(job.settings(found))
    with beam.Pipeline() as made:
        pipeline.build(made, Plan(job, found))
    return tmp_path / "out", summary.figures(made.result)


def test_rows_are_what_the_model_says_of_each_picture(tmp_path, photos, model):
    paths = link(photos, tmp_path / "in")
    (tmp_path / "in" / "broken.jpg").write_bytes(photos[0].read_bytes()[:1000])
    out, said = judge(tmp_path, Inputs((str(tmp_path / "in" / "**.jpg"),), "pictures"), model)
    rows = read_rows(out)
    assert set(rows) == set(paths)
    predictor, peer = Predictor(model), tf.lite.Interpreter(model)
    peer.allocate_tensors()
    alike = 0
    for path, row in rows.items():
        # What training and the served graph make of the picture, in TensorFlow's own runtime.
        pixels = km.decode_and_resize(Path(path).read_bytes(), (128, 128)).numpy().astype(np.uint8)[None]
        peer.set_tensor(peer.get_input_details()[0]["index"], pixels)
        peer.invoke()
        (detail,) = peer.get_output_details()
        scores = peer.get_tensor(detail["index"])[0] * detail["quantization"][0]
        np.testing.assert_allclose(row["scores"], np.sort(scores)[::-1][: len(row["scores"])], atol=0.1)
        alike += row["class_ids"][0] == scores.argmax()
        (expected,) = predictor.predict(pixels).values()
        np.testing.assert_allclose(row["scores"][0], expected.max(), atol=0.1)
        assert (row["model"], len(row["version"])) == ("mobilenet_v1_0.25_128_quant", 12)
    assert alike >= 0.9 * len(rows)
    assert "it is broken" in read_bad(out)[str(tmp_path / "in" / "broken.jpg")]
    assert (said["pictures"], said["bad"]) == (len(paths), 1)
    assert said["batch_size"]["max"] == 4 and said["decode_microseconds"]["count"] == len(paths)
    assert Folder(str(out)).facts() == {
        "rows": len(paths), "bad": 1, "max_bad_share": 0.5, "within_max_bad_share": True,
    }  # fmt: skip


def test_a_csv_of_paths_as_json_lines(tmp_path, photos, model):
    listing = tmp_path / "list.csv"
    with listing.open("w", newline="") as file:
        csv.writer(file).writerows([["n", "path"], *enumerate([*photos[:5], tmp_path / "none.jpg"])])
    out, _ = judge(tmp_path, Inputs((str(listing),), "csv"), model, format="jsonl", shards=2)
    files = sorted(out.glob("rows-*.jsonl"))
    assert len(files) == 2
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == sorted(map(str, photos[:5]))
    assert list(read_bad(out)) == [str(tmp_path / "none.jpg")]


def test_records_to_records(tmp_path, photos, model):
    file = tmp_path / "some.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for path in photos[:3]:
            value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.read_bytes()]))
            example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": value}))
            writer.write(example.SerializeToString())
        writer.write(b"no example")
    out, _ = judge(tmp_path, Inputs((str(file),), "tfrecords"), model, format="tfrecord")
    found = tf.data.TFRecordDataset([str(path) for path in sorted(out.glob("rows-*.tfrecord"))])
    features = [tf.train.Example.FromString(one.numpy()).features.feature for one in found]
    by_path = {one["path"].bytes_list.value[0].decode(): one for one in features}
    assert sorted(by_path) == [f"{file}#{number}" for number in range(3)]
    (scores,) = (
        Predictor(model)
        .predict(km.decode_and_resize(photos[1].read_bytes(), (128, 128)).numpy()[None].astype("uint8"))
        .values()
    )
    row = by_path[f"{file}#1"]
    np.testing.assert_allclose(row["scores"].float_list.value[0], scores.max(), atol=0.1)
    assert len(row["class_ids"].int64_list.value) == len(row["labels"].bytes_list.value)
    assert "no tf.train.Example" in read_bad(out)[f"{file}#3"]


def test_a_file_that_two_patterns_fit_has_one_row(tmp_path, photos, model):
    paths = link(photos[:6], tmp_path / "in")
    patterns = (str(tmp_path / "in" / "*" / "*.jpg"), str(tmp_path / "in" / "**.jpg"))
    out, _ = judge(tmp_path, Inputs(patterns, "pictures"), model)
    assert sorted(read_rows(out)) == sorted(paths)


def test_a_mask_for_each_picture(tmp_path, shared_data):
    model = str(shared_data / "weights" / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    bird = str(shared_data / "photos" / "bird_segmentation.bmp")
    out, _ = judge(tmp_path, Inputs((bird,), "pictures"), model, task="segment")
    row = read_rows(out)[bird]
    assert row["class_ids"][:2] == [0, 3] and row["mask"].startswith(b"\x89PNG")


def test_what_is_listed_before_the_start(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.csv"):
        (tmp_path / name).write_text("path\n" if name.endswith("csv") else "")
    patterns = (str(tmp_path / "*.jpg"), str(tmp_path / "a.*"))
    assert inputs.check(Inputs(patterns, "pictures"), count=True) == 2
    assert inputs.check(Inputs(patterns, "pictures"), count=False) is None
    assert inputs.guess_format(("a.tfrecord-00000-of-00002",)) == "tfrecords"
    with pytest.raises(ValueError, match="fits no file"):
        inputs.check(Inputs((str(tmp_path / "*.png"),), "pictures"), count=False)
    with pytest.raises(ValueError, match="no column 'file'"):
        inputs.check(Inputs((str(tmp_path / "c.csv"),), "csv", "file"), count=True)
    with pytest.raises(ValueError, match="csv and pictures"):
        inputs.guess_format(("a.jpg", "b.csv"))
