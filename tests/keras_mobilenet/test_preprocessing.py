import hashlib
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import keras_mobilenet as km
from keras_mobilenet import preprocessing
from tests.keras_mobilenet.pictures import encode, picture


def test_importing_it_loads_neither_tensorflow_nor_keras():
    program = "import sys, keras_mobilenet.preprocessing as p; p.preprocess_input([1, 2]);" + (
        "p.decode_predictions([[0.1, 0.9]], labels=['a', 'b']); print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", "float16"])
def test_preprocess_input_equals_keras_applications(dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3)).astype(dtype)
    kept = pixels.copy()
    expected = keras.applications.mobilenet_v2.preprocess_input(pixels.astype("float32"))
    for x in (pixels, tf.constant(pixels)):
        scaled = km.preprocess_input(x)
        assert type(scaled) is type(x) or isinstance(scaled, tf.Tensor)
        assert scaled.dtype == "float32"
        np.testing.assert_array_equal(scaled, expected)
    np.testing.assert_array_equal(pixels, kept)
    assert expected.min() >= -1 and expected.max() <= 1


def test_preprocess_input_of_float32_leaves_it_alone():
    pixels = np.full((2, 2, 3), 255, "float32")
    scaled = km.preprocess_input(pixels, data_format="channels_first")
    assert (scaled == 1).all() and (pixels == 255).all()


def test_preprocess_input_inside_models_and_datasets():
    image = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(image, km.preprocess_input(image))
    assert (model(np.zeros((1, 4, 4, 3), "uint8")) == -1).numpy().all()
    dataset = tf.data.Dataset.from_tensors(tf.zeros((4, 4, 3), tf.uint8)).map(km.preprocess_input)
    assert (next(iter(dataset)) == -1).numpy().all()


def test_preprocess_input_refuses_other_formats():
    with pytest.raises(ValueError, match=r'`data_format=\'NHWC\'` is not one of None, "channels_last"'):
        km.preprocess_input(np.zeros(3), data_format="NHWC")


@pytest.mark.parametrize("size", [(24, 24), (17, 53), (37, 20), (80, 90), (37, 53), (1, 1)])
def test_resize_equals_pillow(size):
    image = picture()
    resized = km.resize(np.asarray(image), size)
    assert resized.dtype == tf.float32
    expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)).astype("float32")
    difference = np.abs(resized - expected)
    assert difference.max() <= 1 and np.mean(difference > 0) < 0.02  # halves may round either way


def test_resize_of_batches_floats_and_unknown_sizes():
    image = np.asarray(picture())
    single = km.resize(image, (20, 30))
    np.testing.assert_array_equal(km.resize(image[None].repeat(2, 0), (20, 30))[1], single)
    unknown = tf.function(lambda x: km.resize(x, (20, 30)), input_signature=[tf.TensorSpec((None,) * 4, tf.uint8)])
    np.testing.assert_array_equal(unknown(image[None])[0], single)
    floats = km.resize(image.astype("float32") / 127.5 - 1, (20, 30))
    np.testing.assert_allclose((floats + 1) * 127.5, single, atol=1.01)


@pytest.mark.parametrize("size", [224, (224,), (0, 5), (2.5, 3), ("a", "b"), None])
def test_resize_refuses_other_sizes(size):
    with pytest.raises(ValueError, match=r"is not \(height, width\) in whole pixels, such as \(224, 224\)"):
        km.resize(np.zeros((4, 4, 3), "uint8"), size)


def test_decode_and_resize_one_and_many():
    contents = [encode(picture(), form) for form in ("JPEG", "PNG", "BMP", "GIF")]
    many = km.decode_and_resize(contents, (20, 30))
    assert many.shape == (4, 20, 30, 3)
    for one, image in zip(contents, many, strict=True):
        np.testing.assert_array_equal(km.decode_and_resize(one, (20, 30)), image)
        np.testing.assert_array_equal(km.resize(km.decode_image(one), (20, 30)), image)
    assert km.decode_and_resize(tf.zeros([0], tf.string), (20, 30)).shape == (0, 20, 30, 3)


def test_a_bad_picture_fails_by_name_in_saved_models_and_frozen_graphs(tmp_path):
    """Grappler and freezing must not take the checks out."""
    weight = tf.Variable(2.0)
    module = tf.Module()
    module.weight = weight

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def serve(image_bytes):
        return {"images": km.preprocess_input(km.decode_and_resize(image_bytes, (8, 8))) * weight}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve)
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    frozen = convert_variables_to_constants_v2(serve.get_concrete_function())
    good = encode(picture(), "PNG")
    expected = serve(tf.constant([good]))["images"]
    for graph in (loaded, frozen):
        answer = graph(tf.constant([good, good]))
        answer = answer["images"] if isinstance(answer, dict) else answer[0]
        np.testing.assert_array_equal(answer[1], expected[0])
        for bad, message in (
            (b"", "is empty"),
            (good[:99], "PNG is truncated"),
            (b"text", "no picture of a known kind"),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                graph(tf.constant([good, bad]))


def test_decode_predictions_with_labels():
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]], "float32")
    first, second = km.decode_predictions(scores, top=2, labels=["cat", "dog", "owl"])
    assert first == [("1", "dog", np.float32(0.7)), ("2", "owl", np.float32(0.2))]
    assert [name for _, name, _ in second] == ["cat", "dog"]
    assert len(km.decode_predictions(tf.constant(scores), top=9, labels=("a", "b", "c"))[0]) == 3


@pytest.fixture
def class_index(shared_data, monkeypatch, tmp_path):
    """Keras's file of ImageNet's names, written anew from the list of classes; its hash says that it is the same."""
    rows = (shared_data / "imagenet" / "imagenet_classes.csv").read_text().splitlines()[1:]
    entries = {}
    for row in rows:
        index, wnid, names = row.split(",", 2)
        entries[index] = [wnid, names.strip('"').split(",")[0].replace(" ", "_")]
    text = json.dumps(entries)
    assert hashlib.md5(text.encode()).hexdigest() == preprocessing._CLASS_INDEX_MD5
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "imagenet_class_index.json").write_text(text)
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    preprocessing._imagenet_class_index.cache_clear()
    yield
    preprocessing._imagenet_class_index.cache_clear()


def test_decode_predictions_of_imagenet_equals_keras(class_index):
    scores = np.random.default_rng(0).random((3, 1000)).astype("float32")
    assert km.decode_predictions(scores, top=7) == keras.applications.mobilenet.decode_predictions(scores, top=7)


@pytest.mark.slow
def test_decode_predictions_without_a_network():
    program = "import numpy as np, keras_mobilenet as km; km.decode_predictions(np.zeros((1, 1000)))"
    environment = {"KERAS_HOME": "/nowhere-to-be-found", "https_proxy": "http://127.0.0.1:9", "PATH": ""}
    environment |= {"PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: ImageNet's class names could not be loaded: ")
    for part in (
        preprocessing.CLASS_INDEX_URL,
        "/nowhere-to-be-found/models/imagenet_class_index.json",
        "pass `labels=`",
    ):
        assert part in last


@pytest.mark.parametrize(
    ("preds", "arguments", "message"),
    [
        (np.zeros(1000), {}, r"shape \(1000,\), not \[N, classes\]; for a single row pass `preds\[None\]`"),
        (np.zeros((1, 1001)), {}, r"1001 classes.*background: pass `preds\[:, 1:\]`"),
        (np.zeros((1, 10)), {}, "10 classes, ImageNet 1000: pass `labels=`"),
        (np.zeros((1, 3)), {"labels": ["a", "b"]}, "`labels` is 2 names, but `preds` has 3 classes"),
        (np.zeros((1, 3)), {"labels": "abc"}, "`labels` is a single string"),
        (np.zeros((1, 3)), {"labels": ["a", "b", "c"], "top": 0}, "`top=0` is not a whole number of at least 1"),
        (np.zeros((1, 3)), {"labels": ["a", "b", "c"], "top": 2.0}, "`top=2.0` is not a whole number"),
    ],
)
def test_decode_predictions_refuses(preds, arguments, message):
    with pytest.raises(ValueError, match=message):
        km.decode_predictions(preds, **arguments)
