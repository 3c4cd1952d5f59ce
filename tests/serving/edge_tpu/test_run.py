import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ai_edge_litert")

from keras_mobilenet.runtime import Predictor
from serving.edge_tpu import labels, pictures, tasks
from serving.edge_tpu.pipeline import Pipeline

from .segments import cut

ROOT = Path(__file__).parents[3]


def run(*arguments):
    program = [sys.executable, "-m", "serving.edge_tpu.run", *map(str, arguments)]
    return subprocess.run(program, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)


@pytest.fixture(scope="module")
def weights(shared_data):
    return shared_data / "weights"


@pytest.fixture(scope="module")
def photos(shared_data):
    return shared_data / "photos"


@pytest.fixture(scope="module")
def segments(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("segments")
    paths = [folder / f"mobilenet_segment_{index}_of_2.tflite" for index in (0, 1)]
    for path, content in zip(
        paths, cut((weights / "mobilenet_v1_0.25_128_quant.tflite").read_bytes(), 17), strict=True
    ):
        path.write_bytes(content)
    return paths


def test_classification_with_json(weights, photos, tmp_path):
    report = tmp_path / "report.json"
    arguments = [weights / "mobilenet_v2_1.0_224_quant.tflite", photos / "parrot.jpg", photos / "owl.jpg"]
    done = run(*arguments, f"--labels={weights / 'imagenet_labels.txt'}", f"--json={report}", "--top=3")
    assert done.returncode == 0, done.stderr
    assert "macaw" in done.stdout
    parrot, owl = json.loads(report.read_text())["pictures"]
    assert parrot["task"] == "classification"
    assert parrot["answer"][0]["label"] == "macaw" and parrot["answer"][0]["score"] > 0.9
    assert len(owl["answer"]) <= 3
    scores = [row["score"] for row in owl["answer"]]
    assert scores == sorted(scores, reverse=True)


def test_labels_attached_to_the_model_are_the_default(weights, photos):
    done = run(weights / "mobilenet_v2_1.0_224_quant.tflite", photos / "parrot.jpg")
    assert "macaw" in done.stdout


def test_segmentation_writes_an_overlay(weights, photos, tmp_path):
    model = weights / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    arguments = [model, photos / "bird_segmentation.bmp", f"--output_dir={tmp_path}"]
    names = f"--labels={weights / 'pascal_voc_segmentation_labels.txt'}"
    done = run(*arguments, names)
    assert done.returncode == 0, done.stderr
    assert "%  bird" in done.stdout
    with (
        Image.open(photos / "bird_segmentation.bmp") as photo,
        Image.open(tmp_path / "bird_segmentation_overlay.png") as out,
    ):
        assert out.size == photo.size
        changed = (np.asarray(out.convert("RGB")) != np.asarray(photo.convert("RGB"))).any(-1)
    assert 0.1 < changed.mean() < 0.3
    again = run(*arguments, names)
    assert again.returncode == 2 and "--overwrite" in again.stderr
    assert run(*arguments, names, "--overwrite").returncode == 0


def test_the_mask_agrees_with_the_photos_own(weights, photos):
    predictor = Predictor(weights / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    image = pictures.read(photos / "bird_segmentation.bmp")
    outputs = predictor.predict(pictures.resized(image, (513, 513)))
    assert tasks.recognise(predictor, outputs) == "segmentation"
    answer = tasks.read("segmentation", None, outputs, tasks.Settings({}, 5, 0.0), image.size)
    with Image.open(photos / "bird_segmentation_mask.bmp") as mask:
        expected = np.asarray(mask.convert("L").resize((513, 513), Image.Resampling.NEAREST)) > 0
    bird = answer.mask == 3
    assert (bird & expected).sum() / (bird | expected).sum() > 0.8


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A detector whose raw boxes and scores are constant, and whose end is TFLite's own post-processing."""
    import tensorflow as tf

    anchors = np.array([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]], np.float32)
    options = {"max_detections": 5, "max_classes_per_detection": 1, "num_classes": 2, "use_regular_nms": False}
    numbers = {"nms_score_threshold": 0.1, "nms_iou_threshold": 0.5} | dict.fromkeys(("y_scale", "x_scale"), 10.0)
    numbers |= dict.fromkeys(("h_scale", "w_scale"), 5.0)
    attributes = " ".join(
        [
            f'attr {{ key: "{key}" value {{ i: {int(value)} }} }}'
            for key, value in options.items()
            if key != "use_regular_nms"
        ]
        + [f'attr {{ key: "{key}" value {{ f: {value} }} }}' for key, value in numbers.items()]
        + ['attr { key: "use_regular_nms" value { b: false } }', 'attr { key: "tfl_fusable_op" value { b: true } }']
    )
    implements = f'name: "TFLite_Detection_PostProcess" {attributes}'

    @tf.function(experimental_implements=implements)
    def post_process(boxes, scores, anchors):
        del boxes, scores, anchors
        return tf.zeros((1, 5, 4)), tf.zeros((1, 5)), tf.zeros((1, 5)), tf.zeros((1,))

    @tf.function(input_signature=[tf.TensorSpec((1, 16, 16, 3), tf.float32, "image")])
    def detect(image):
        bright = tf.reduce_mean(image)
        scores = tf.constant([[[0.0, 0.2, 0.8], [0.0, 0.6, 0.3]]]) + 0.0 * bright
        found = post_process(tf.zeros((1, 2, 4)) * bright, scores, tf.constant(anchors))
        return dict(zip(("boxes", "classes", "scores", "count"), found, strict=True))

    folder = tmp_path_factory.mktemp("detector")
    tf.saved_model.save(tf.Module(), str(folder / "saved"), signatures=detect.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    converter.allow_custom_ops = True
    path = folder / "detector.tflite"
    path.write_bytes(converter.convert())
    return path


def test_detection(detector, photos, tmp_path):
    (tmp_path / "labels.txt").write_text("0 cat\n1 dog\n")
    report = tmp_path / "report.json"
    arguments = [f"--labels={tmp_path / 'labels.txt'}", f"--output_dir={tmp_path}", f"--json={report}"]
    done = run(detector, photos / "parrot.jpg", *arguments)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(report.read_text())["pictures"]
    with Image.open(photos / "parrot.jpg") as photo:
        width, height = photo.size
    assert row["task"] == "detection"
    assert [(found["label"], round(found["score"], 3)) for found in row["answer"]] == [("dog", 0.8), ("cat", 0.6)]
    np.testing.assert_allclose(row["answer"][0]["box"], [0, 0, width / 2, height / 2], atol=1)
    np.testing.assert_allclose(row["answer"][1]["box"], [width / 2, height / 2, width, height], atol=1)
    with Image.open(tmp_path / "parrot_overlay.png") as overlay:
        assert overlay.size == (width, height)
    few = run(detector, photos / "parrot.jpg", *arguments, "--threshold=0.7", "--overwrite")
    assert "dog" in few.stdout and "cat" not in few.stdout


def test_segments_give_what_the_whole_model_gives(weights, photos, segments):
    whole = weights / "mobilenet_v1_0.25_128_quant.tflite"
    arguments = ["--pipeline", f"--compare={whole}", "--tolerance=0", "--device=cpu,cpu"]
    done = run(*segments, photos / "cat_720p.jpg", photos / "parrot.jpg", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("largest difference") == 2
    other = run(
        *segments, photos / "cat_720p.jpg", "--pipeline", f"--compare={weights / 'mobilenet_v1_0.5_160_quant.tflite'}"
    )
    assert other.returncode == 2 and "the model reads (1, 160, 160, 3)" in other.stderr


def test_segments_in_the_wrong_order(photos, segments):
    done = run(*segments[::-1], photos / "owl.jpg", "--pipeline")
    assert done.returncode == 2
    assert "error:" in done.stderr and "Traceback" not in done.stderr


def test_a_difference_is_status_1(weights, photos, segments):
    """The second segment's bias is changed, so its answer is another one."""
    content = bytearray(segments[1].read_bytes())
    changed = segments[1].with_name("changed.tflite")
    from keras_mobilenet import tflite_file

    graph = tflite_file.read(segments[1]).main
    last = [operator for operator in graph.operators if operator.name == "CONV_2D"][-1]
    bias = bytes(graph.input_tensors(last)[2].raw)
    place = content.index(bias)
    content[place : place + len(bias)] = bias[::-1]
    changed.write_bytes(content)
    whole = weights / "mobilenet_v1_0.25_128_quant.tflite"
    done = run(segments[0], changed, photos / "owl.jpg", "--pipeline", f"--compare={whole}")
    assert done.returncode == 1


def test_a_pipeline_keeps_the_order_of_its_inputs(weights, segments):
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 128, 128, 3), np.uint8)
    pipeline = Pipeline([Predictor(path) for path in segments])
    whole = Predictor(weights / "mobilenet_v1_0.25_128_quant.tflite")
    for image, outputs in zip(images, pipeline.map(images), strict=True):
        for name, value in whole.predict(image).items():
            np.testing.assert_array_equal(outputs[name], value)


def test_an_error_in_a_segment_reaches_the_caller(segments):
    pipeline = Pipeline([Predictor(path) for path in segments])
    with pytest.raises(ValueError, match="shape"):
        list(pipeline.map([np.zeros((1, 128, 128, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)]))


def test_benchmark(weights, tmp_path):
    report = tmp_path / "report.json"
    arguments = ["--benchmark", "--runs=5", "--warm_up=1", f"--json={report}"]
    done = run(weights / "mobilenet_v1_0.25_128_quant.tflite", *arguments)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["benchmark"]
    assert set(figures["median"]) == {"set", "invoke", "get", "total"}
    assert all(figures["p99"][part] >= figures["median"][part] > 0 for part in figures["median"])
    assert figures["runs"] == 5 and figures["circumstances"]["device"] == "cpu"
    assert "--benchmark" in figures["circumstances"]["command"]
    for word in ("median", "p99", "invoke", "pictures/s"):
        assert word in done.stdout


def test_benchmark_of_a_pipeline(segments, photos):
    done = run(*segments, photos / "owl.jpg", "--pipeline", "--benchmark", "--runs=5", "--warm_up=1")
    assert done.returncode == 0, done.stderr
    assert "device cpu+cpu" in done.stdout


def test_errors_are_sentences(weights, photos, shared_data, tmp_path, segments):
    model, owl = weights / "mobilenet_v1_0.25_128_quant.tflite", photos / "owl.jpg"
    compiled = shared_data / "edgetpu" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    (tmp_path / "broken.jpg").write_bytes(owl.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.txt").write_text("")
    Image.new("1", (65_000, 1_000)).save(tmp_path / "huge.png")
    cases = {
        (): "name a model",
        (model,): "name a picture",
        (model, photos / "none.jpg"): "No such file",
        (model, tmp_path / "broken.jpg"): "isn't a picture that can be read",
        (model, tmp_path / "text.jpg"): "isn't a picture that can be read",
        (model, tmp_path / "huge.png"): "65000 x 1000 pixels",
        (tmp_path / "none.tflite", owl): "there is no model at",
        (model, model, owl): "more than one goes with --pipeline",
        (model, owl, "--device=cpu,cpu"): "--device names 2 devices for 1 models",
        (model, owl, "--device=gpu"): "known are 'cpu', 'edgetpu'",
        (model, owl, "--device=usb:0"): "isn't compiled for the Edge TPU",
        (model, owl, f"--labels={tmp_path / 'empty.txt'}"): "is empty",
        (model, owl, f"--labels={owl}"): "isn't a text file",
        (model, owl, "--task=detection"): "doesn't end in TFLite_Detection_PostProcess",
        (compiled, owl): "is compiled for an Edge TPU and doesn't run on the CPU",
        (segments[1], owl): "not one picture",
    }
    for arguments, message in cases.items():
        done = run(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), (arguments, done.stderr)
        assert message in done.stderr, (arguments, done.stderr)


def test_the_missing_library_or_device_is_named(shared_data, photos):
    done = run(
        shared_data / "edgetpu" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite", photos / "owl.jpg", "--device=usb:0"
    )
    assert done.returncode == 2
    assert "libedgetpu1-std" in done.stderr or "there is no Edge TPU at 'usb:0'" in done.stderr


def test_it_needs_no_tensorflow(weights, photos):
    program = (
        "import runpy, sys; sys.argv[0] = 'run'\n"
        "try: runpy.run_module('serving.edge_tpu.run', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    model = weights / "mobilenet_v1_0.25_128_quant.tflite"
    subprocess.run([sys.executable, "-c", program, str(model), str(photos / "owl.jpg")], cwd=ROOT, check=True)


def test_labels(tmp_path):
    assert labels.parse("cat\ndog\n", "") == {0: "cat", 1: "dog"}
    assert labels.parse("0 person\n2  car\n", "") == {0: "person", 2: "car"}
    assert labels.parse("1: cat\n7: polar bear\n", "") == {1: "cat", 7: "polar bear"}
    assert labels.parse("3 wheeler\nbus\n", "") == {0: "3 wheeler", 1: "bus"}
    assert labels.name({0: "cat"}, 5) == "5"


def test_the_palette_is_pascal_vocs():
    np.testing.assert_array_equal(
        pictures.palette(9)[[0, 1, 2, 3, 8]], [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0]]
    )


def test_pictures_are_turned_the_way_their_exif_says(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert pictures.read(tmp_path / "turned.jpg").size == (20, 40)
