"""Converted files, run by LiteRT, against the Keras models that they come from, and against Coral's own file."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_mobilenet as km
from keras_mobilenet import tflite_file
from tests.keras_mobilenet.optimization.networks import images, settle, small

PICTURES = np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
INT8_OPERATORS = {"QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "RESHAPE", "SOFTMAX"}


def run(content, pictures, batch=1):
    """First output of each picture, as real values."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    (image,), output = interpreter.get_input_details(), interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(image["index"], (batch, *pictures.shape[1:]), strict=False)
    interpreter.allocate_tensors()
    results = []
    for start in range(0, len(pictures), batch):
        interpreter.set_tensor(image["index"], pictures[start : start + batch])
        interpreter.invoke()
        results.append(interpreter.get_tensor(output["index"]))
    scale, zero_point = output["quantization"]
    values = np.concatenate(results).astype(np.float32)
    return (values - zero_point) * scale if scale else values


def prune(model, sparsity):
    """Zeroes the smallest weights of every kernel but depthwise ones."""
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.Dense) and not isinstance(layer, layers.DepthwiseConv2D):
            kernel, *bias = layer.get_weights()
            layer.set_weights([kernel * (np.abs(kernel) > np.quantile(np.abs(kernel), sparsity)), *bias])
    return model


@pytest.fixture(scope="module")
def model():
    return settle(small())


@pytest.fixture(scope="module")
def want(model):
    probabilities = model.predict(km.preprocess_input(PICTURES), verbose=0)
    assert probabilities.std() > 0.02  # else anything would agree
    return probabilities


@pytest.fixture(scope="module")
def aware(model):
    return km.quantize_aware(model, images(32))


@pytest.fixture(scope="module")
def int8(aware):
    return km.convert_tflite(aware, "int8")


@pytest.mark.parametrize(("quantization", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("dynamic", 5e-2)])
def test_float_files_compute_what_the_model_does(model, want, quantization, tolerance):
    content = km.convert_tflite(model, quantization)
    pictures = km.preprocess_input(PICTURES)
    np.testing.assert_allclose(run(content, pictures), want, atol=tolerance)
    np.testing.assert_allclose(run(content, pictures, batch=4), want, atol=tolerance)  # as TF Serving resizes it
    file = tflite_file.read(content).main
    assert not any(tensor.is_dynamic for tensor in file.tensors)


def test_an_int8_file_computes_what_the_quantization_aware_model_does(aware, int8):
    want = km.fold_batch_norm(aware).predict(km.preprocess_input(PICTURES), verbose=0)
    got = run(int8, PICTURES)
    np.testing.assert_allclose(got, want, atol=0.02)
    assert np.abs(got - want).mean() < 1 / 256


def test_an_int8_file_holds_nothing_that_an_edge_tpu_does_not_take(int8):
    file = tflite_file.read(int8).main
    assert {tensor.dtype for tensor in file.tensors} == {"uint8", "int8", "int32"}
    assert not any(tensor.is_dynamic for tensor in file.tensors)
    assert {operator.name for operator in file.operators} == INT8_OPERATORS
    report = km.edge_tpu.check(int8)
    assert report.fully_mapped, report.cpu_operators


def test_the_bytes_of_a_picture_are_an_int8_files_input(int8):
    file = tflite_file.read(int8).main
    image, output = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
    assert (image.name, image.shape, image.dtype) == ("image", (1, 32, 32, 3), "uint8")
    np.testing.assert_allclose(image.quantization.scale, 1 / 127.5, rtol=1e-6)
    assert image.quantization.zero_point == 128
    assert (output.name, output.dtype, output.quantization.scale) == ("probabilities", "uint8", 1 / 256)


def test_int8_input_is_the_same_file_without_its_ends(aware, int8):
    content = km.convert_tflite(aware, "int8", input_type="int8")
    shifted = (PICTURES.astype(np.int16) - 128).astype(np.int8)
    np.testing.assert_array_equal(run(content, shifted), run(int8, PICTURES))
    assert "QUANTIZE" not in {operator.name for operator in tflite_file.read(content).main.operators}


def test_versions_are_those_of_corals_file(int8, shared_data):
    peer = tflite_file.read(shared_data / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite").main
    newest = {operator.name: operator.version for operator in peer.operators}
    assert set(newest) == INT8_OPERATORS
    for operator in tflite_file.read(int8).main.operators:
        assert operator.version <= newest[operator.name], operator


def test_a_quantization_aware_model_makes_a_float_file_without_rounding(model, aware):
    content = km.convert_tflite(aware, "float32")
    got = run(content, km.preprocess_input(PICTURES))
    np.testing.assert_allclose(got, model.predict(km.preprocess_input(PICTURES), verbose=0), atol=0.05)
    assert {tensor.dtype for tensor in tflite_file.read(content).main.tensors} == {"float32", "int32"}


def test_logits_get_their_softmax():
    logits = settle(small(activation=None))
    want = tf.nn.softmax(logits.predict(km.preprocess_input(PICTURES), verbose=0))
    np.testing.assert_allclose(run(km.convert_tflite(logits), km.preprocess_input(PICTURES)), want, atol=1e-5)


@pytest.fixture(scope="module")
def wide():
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(64, 3, strides=4, activation="relu")(image)
    for _ in range(3):
        x = layers.Conv2D(256, 1, activation="relu")(x)
    return keras.Model(image, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def test_float16_and_dynamic_files_store_smaller_weights(wide):
    size = len(km.convert_tflite(wide))
    for quantization, dtype, share in [("float16", "float16", 0.55), ("dynamic", "int8", 0.3)]:
        content = km.convert_tflite(wide, quantization)
        kernels = [t for t in tflite_file.read(content).main.tensors if t.is_constant and t.shape == (256, 1, 1, 256)]
        assert {tensor.dtype for tensor in kernels} == {dtype}
        assert len(content) < share * size


def test_a_sparse_float_file_is_stored_sparse(wide):
    model = prune(keras.models.clone_model(wide), 0.8)
    sparse = km.convert_tflite(model)
    assert len(sparse) < 0.6 * len(km.convert_tflite(wide))
    pictures = km.preprocess_input(PICTURES)
    np.testing.assert_allclose(run(sparse, pictures), model.predict(pictures, verbose=0), atol=1e-5)


def test_heads_are_named_by_their_layers():
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=4, activation="relu6")(image)
    heads = [layers.Conv2D(4, 1, name="offsets")(x), layers.Conv2D(3, 1, activation="sigmoid", name="classes")(x)]
    model = keras.Model(image, heads)
    pictures = images(8)
    content = km.convert_tflite(km.quantize_aware(model, pictures), "int8")
    (signature,) = tflite_file.read(content).signatures
    assert (list(signature.inputs), list(signature.outputs)) == (["image"], ["offsets", "classes"])
    runner = Interpreter(model_content=content).get_signature_runner("serving_default")
    raw = np.rint((pictures[:1] + 1) * 127.5).astype(np.uint8)
    got = runner(image=raw)
    for head, expected in zip(("offsets", "classes"), model(pictures[:1]), strict=True):
        scale, zero_point = runner.get_output_details()[head]["quantization"]
        np.testing.assert_allclose((got[head].astype(np.float32) - zero_point) * scale, expected, atol=0.1)


def test_an_open_size_is_set_by_image_size():
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(image)
    model = keras.Model(image, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    content = km.convert_tflite(model, image_size=(48, 32))
    assert tflite_file.read(content).main.tensors[0].shape_signature == (1, 48, 32, 3)
    pictures = images(2, 48)[:, :, :32]
    np.testing.assert_allclose(run(content, pictures), model(pictures), atol=1e-5)


def test_an_operation_without_8_bit_form_is_refused(aware, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"older")
    image = keras.Input((32, 32, 3))
    scaled = keras.Model(image, small()(layers.Rescaling(1 / 127.5, -1.0)(image)))
    with pytest.raises(ValueError, match=r"stay float, the first is 'image'.*Keep preprocessing layers"):
        km.convert_tflite(km.quantize_aware(scaled), "int8", path=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]
    assert path.read_bytes() == b"older"


def test_the_file_is_written_whole_or_not_at_all(model, tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"older")
    monkeypatch.setattr("keras_mobilenet.export.tflite._convert", lambda *args: pytest.fail("no disk is needed"))
    with pytest.raises(ValueError, match="`quantization='int4'` is not one of 'float32', 'float16', 'dynamic', 'int8'"):
        km.convert_tflite(model, "int4", path=path)
    assert path.read_bytes() == b"older"


def test_a_path_gets_the_bytes_that_are_returned(tmp_path):
    image = keras.Input((32, 32, 3))
    content = km.convert_tflite(keras.Model(image, layers.Conv2D(2, 3)(image)), path=tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]
    with pytest.raises(OSError):
        km.convert_tflite(keras.Model(image, layers.Conv2D(2, 3)(image)), path=tmp_path / "nowhere" / "model.tflite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int8"}, "is a float model: pass `representative_data`"),
        ({"quantization": "int8", "representative_data": np.zeros((0, 32, 32, 3))}, "holds no picture"),
        (
            {"quantization": "int8", "representative_data": images(2, 16)},
            r"of shape \(2, 16, 16, 3\).*\(N, 32, 32, 3\)",
        ),
        ({"quantization": "int8", "representative_data": images() * 127.5}, r"values from -127.*reads \[-1, 1\]"),
        ({"representative_data": images()}, "leave it out for quantization='float32'"),
        ({"quantization": "int8", "input_type": "float32"}, "`input_type='float32'` is not one of 'uint8', 'int8'"),
        ({"labels": ["one"]}, "1 labels don't fit the 5 classes"),
        ({"image_size": (64, 64)}, "leave it out"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(model, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        km.convert_tflite(model, **arguments, path=tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_models_that_can_not_be_read_are_refused(aware):
    with pytest.raises(ValueError, match="has its ranges already"):
        km.convert_tflite(aware, "int8", images())
    with pytest.raises(ValueError, match="no graph of layers"):
        km.convert_tflite(keras.Sequential([layers.Conv2D(2, 3)]))
    with pytest.raises(ValueError, match=r"open: pass `image_size=\(height, width\)`"):
        km.convert_tflite(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]))


ZOO = [
    *(("mobilenet_v1", alpha, 128) for alpha in (0.25, 0.5, 0.75, 1.0)),
    *(("mobilenet_v1", 0.25, size) for size in (160, 192, 224)),
    *(("mobilenet_v2", alpha, 96) for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
    *(("mobilenet_v2", 0.35, size) for size in (128, 160, 192, 224)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "alpha", "size"), ZOO)
def test_every_width_and_every_size_maps_as_a_whole(network, alpha, size):
    build = {"mobilenet_v1": km.MobileNetV1, "mobilenet_v2": km.MobileNetV2}[network]
    model = settle(build(input_shape=(size, size, 3), alpha=alpha, weights=None))
    content = km.convert_tflite(km.quantize_aware(model), "int8")
    report = km.edge_tpu.check(content)
    assert report.fully_mapped, report.cpu_operators
    assert {operator.name for operator in report.operators} <= INT8_OPERATORS
    assert {operator.version for operator in report.operators} <= {1, 2, 3}
