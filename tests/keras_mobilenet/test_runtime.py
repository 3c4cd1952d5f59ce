import concurrent.futures
import subprocess
import sys

import numpy as np
import pytest

from keras_mobilenet import runtime
from keras_mobilenet.runtime import Kind, Predictor

litert = pytest.importorskip("ai_edge_litert.interpreter")


@pytest.fixture(scope="module")
def small(shared_data):
    return shared_data / "weights" / "mobilenet_v1_0.25_128_quant.tflite"


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def stored_models(tmp_path_factory):
    """One tiny Keras model as .keras, SavedModel, float .tflite with a free batch and int8 .tflite of batch 1."""
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("models")
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Flatten()(keras.layers.Conv2D(5, 1)(x))
    model = keras.Model(image, keras.layers.Softmax(name="probabilities")(x))
    model.save(folder / "model.keras")
    model.export(folder / "saved" / "2", verbose=False)
    (folder / "saved" / "10").mkdir()
    model.export(folder / "saved" / "10", verbose=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (folder / "float.tflite").write_bytes(converter.convert())

    spec = tf.TensorSpec((1, 8, 8, 3), name="image")
    frozen = convert_variables_to_constants_v2(tf.function(model).get_concrete_function(spec))
    served = tf.function(lambda image: {"probabilities": frozen(image)[0]}).get_concrete_function(spec)
    tf.saved_model.save(tf.Module(), folder / "static", signatures=served)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "static"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    pixels = np.random.default_rng(2).uniform(-1, 1, (64, 8, 8, 3)).astype("float32")
    converter.representative_dataset = lambda: ([row[None]] for row in pixels)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (folder / "int8.tflite").write_bytes(converter.convert())
    return folder, model


def reference(path, picture, **options):
    interpreter = litert.Interpreter(str(path), **options)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_litert_agrees_with_the_interpreter(small, pictures):
    predictor = Predictor(small)
    assert (predictor.kind, predictor.device) == (Kind.TFLITE, "cpu")
    assert predictor.inputs["input"].shape == (1, 128, 128, 3)
    expected = np.concatenate([reference(small, picture[None]) for picture in pictures])
    (stored,) = predictor.predict(pictures, dequantize=False).values()
    np.testing.assert_array_equal(stored, expected)
    (real,) = predictor.predict({"input": pictures}).values()
    np.testing.assert_allclose(real, expected / 256)
    assert real.dtype == np.float32


def test_read_only_values_go_in_as_others_do(stored_models, small, pictures):
    from keras_mobilenet.runtime.litert import LiteRTBackend

    folder, _ = stored_models
    images = np.random.default_rng(6).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    for path, values in (
        (small, pictures[:1]),
        (folder / "float.tflite", images),
        (folder / "float.tflite", images[:1]),
    ):
        session = LiteRTBackend(path).session()
        (name,) = LiteRTBackend(path).inputs

        def run(given, session=session, name=name):
            session.set({name: given})
            session.invoke()
            (result,) = session.get().values()
            return result

        expected = run(values)
        assert run(values[::-1, ::-1]).shape == expected.shape  # So that the next result is not left over.
        read_only = np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape)
        np.testing.assert_array_equal(run(read_only), expected)
        upside_down = values[:, ::-1]
        upside_down.flags.writeable = False
        np.testing.assert_array_equal(run(upside_down), run(upside_down.copy()))
        with pytest.raises(ValueError, match="INT32"):
            run(np.frombuffer(values.astype(np.int32).tobytes(), np.int32).reshape(values.shape))
        np.testing.assert_array_equal(run(read_only), expected)


def test_real_values_are_quantized_by_the_files_parameters(small, pictures):
    predictor = Predictor(small)
    (from_pixels,) = predictor.predict(pictures[:1]).values()
    (from_real,) = predictor.predict((pictures[:1] - 128.0) / 128).values()
    np.testing.assert_array_equal(from_pixels, from_real)


def test_all_kinds_agree(stored_models):
    folder, model = stored_models
    images = np.random.default_rng(3).uniform(-1, 1, (4, 8, 8, 3)).astype("float32")
    expected = model.predict(images, verbose=0)
    for name, tolerance in [("model.keras", 1e-6), ("saved", 1e-6), ("float.tflite", 1e-6), ("int8.tflite", 0.02)]:
        predictor = Predictor(folder / name)
        assert [spec.dtype for spec in predictor.inputs.values()] == ["int8" if "int8" in name else "float32"]
        (result,) = predictor.predict(images).values()
        np.testing.assert_allclose(result, expected, atol=tolerance, err_msg=name)


def test_our_own_layers_are_known_to_a_fresh_process(tmp_path):
    import keras_mobilenet as km

    model = km.MobileNetV1(input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=10)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "expected.npy", model(np.ones((2, 32, 32, 3), np.float32), training=False))
    program = (
        "import sys, numpy; from keras_mobilenet.runtime import Predictor; "
        "(result,) = Predictor(sys.argv[1] + '/model.keras').predict(numpy.ones((2, 32, 32, 3))).values(); "
        "numpy.testing.assert_allclose(result, numpy.load(sys.argv[1] + '/expected.npy'), atol=1e-5)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_a_file_that_xnnpack_refuses_is_run_by_litert_s_own_kernels(tmp_path, pictures):
    """Weights of a million before a ReLU6: a scale that XNNPACK has no fixed-point factor for."""
    import keras

    import keras_mobilenet as km

    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.ReLU(6.0)(keras.layers.Conv2D(8, 1, kernel_initializer=keras.initializers.Constant(1e6))(image))
    model = keras.Model(image, keras.layers.Conv2D(4, 1)(keras.layers.GlobalAveragePooling2D(keepdims=True)(x)))
    pixels = np.random.default_rng(0).uniform(-1, 1, (64, 32, 32, 3)).astype("float32")
    km.convert_tflite(model, "int8", pixels, path=tmp_path / "model.tflite")
    with pytest.warns(UserWarning, match="XNNPACK can't run .*model.tflite"):
        predictor = Predictor(tmp_path / "model.tflite")
    (result,) = predictor.predict(pictures[:2, :32, :32]).values()
    kernels = litert.OpResolverType.BUILTIN_REF
    with pytest.raises(RuntimeError, match="XNNPACK"):
        reference(tmp_path / "model.tflite", pictures[:1, :32, :32])
    expected = reference(tmp_path / "model.tflite", pictures[:1, :32, :32], experimental_op_resolver_type=kernels)
    quantization = next(iter(predictor.outputs.values())).quantization
    (scale,), (zero,) = quantization.scale, quantization.zero_point
    np.testing.assert_allclose(result[:1], (expected.astype("float32") - zero) * scale, atol=scale)


def test_names_come_from_the_signature(stored_models):
    folder, _ = stored_models
    for name in ("model.keras", "int8.tflite"):
        predictor = Predictor(folder / name)
        assert (list(predictor.inputs), list(predictor.outputs)) == (["image"], ["probabilities"])


def test_a_free_batch_is_run_at_once_and_again_with_another_size(stored_models):
    folder, _ = stored_models
    predictor = Predictor(folder / "float.tflite")
    assert predictor.inputs[next(iter(predictor.inputs))].shape == (None, 8, 8, 3)
    images = np.random.default_rng(4).uniform(-1, 1, (6, 8, 8, 3)).astype("float32")
    (six,) = predictor.predict(images).values()
    (two,) = predictor.predict(images[4:]).values()
    np.testing.assert_allclose(six[4:], two, atol=1e-6)


def test_threads_share_the_pool(small, pictures):
    predictor = Predictor(small, workers=2)
    alone = [predictor.predict(picture[None], dequantize=False) for picture in pictures]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: predictor.predict(pictures[i % 3][None], dequantize=False), range(60)))
    for index, outputs in enumerate(together):
        for name, value in outputs.items():
            np.testing.assert_array_equal(value, alone[index % 3][name])


def test_a_session_comes_back_after_an_error(small, pictures):
    predictor = Predictor(small)
    for _ in range(3):
        with pytest.raises(ValueError, match="shape"):
            predictor.predict(pictures[:, :64])
    assert predictor.predict(pictures[:1])


def test_timing_adds_up(small, pictures):
    _, timing = Predictor(small).predict_timed(pictures)
    assert timing.invoke > timing.get > 0
    assert timing.total == pytest.approx(timing.set + timing.invoke + timing.get)


def test_image_input(stored_models, small):
    folder, _ = stored_models
    pixels = np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3) * np.ones((1, 8, 8, 1), np.uint8)
    assert Predictor(small).image_input(pixels) is pixels
    real = Predictor(folder / "model.keras").image_input(pixels)
    np.testing.assert_allclose(real[0, 0, 0], [-1, -1 / 255, 1], atol=1e-6)
    predictor = Predictor(folder / "int8.tflite")
    stored = predictor.image_input(pixels)
    assert stored.dtype == np.int8 and stored[0, 0, 0, 0] == -128 and stored[0, 0, 0, 2] == 127


def test_strings_go_into_a_saved_model(tmp_path):
    import tensorflow as tf

    class Lengths(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def lengths(self, text):
            return {"lengths": tf.strings.length(text)}

    module = Lengths()
    tf.saved_model.save(module, tmp_path, signatures={"lengths": module.lengths})
    predictor = Predictor(tmp_path, signature="lengths")
    assert predictor.inputs["text"].dtype == "object"
    np.testing.assert_array_equal(predictor.predict(np.array([b"a", b"bcd"], object))["lengths"], [1, 3])
    with pytest.raises(ValueError, match=r"no signature 'serving_default'; it has \['lengths'\]"):
        Predictor(tmp_path)


def test_the_highest_version_is_found(stored_models):
    folder, _ = stored_models
    assert runtime.find(folder / "saved").path == folder / "saved" / "10"
    assert runtime.find(folder / "saved" / "2").kind is Kind.SAVED_MODEL


def test_model_tflite_beside_a_saved_model(tmp_path):
    for name in ("saved_model.pb", "model.tflite"):
        (tmp_path / name).write_bytes(b"")
    assert runtime.find(tmp_path).kind is Kind.SAVED_MODEL
    assert runtime.find(tmp_path, prefer_tflite=True) == runtime.Artefact(Kind.TFLITE, tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((1, 64, 64, 3), np.uint8), r"shape \(1, 64, 64, 3\); the model reads \(1, 128, 128, 3\)"),
        (np.zeros((0, 128, 128, 3), np.uint8), "shape"),
        (np.full((1, 128, 128, 3), 256), "0 to 255; the values given run from 256 to 256"),
        (np.full((1, 128, 128, 3), np.nan), "aren't finite"),
        (np.full((1, 128, 128, 3), "x"), "the values given are <U1"),
        (
            {"image": np.zeros((1, 128, 128, 3), np.uint8)},
            r"the inputs given are \['image'\]; the model has \['input'\]",
        ),
    ],
)
def test_inputs_that_do_not_fit(small, value, message):
    with pytest.raises(ValueError, match=message):
        Predictor(small).predict(value)


def test_paths_that_are_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model at"):
        Predictor(tmp_path / "none.keras")
    with pytest.raises(ValueError, match=r"holds neither saved_model\.pb nor"):
        Predictor(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ends in \.keras or \.tflite"):
        Predictor(tmp_path / "model.onnx")
    (tmp_path / "empty.tflite").write_bytes(b"")
    with pytest.raises(ValueError, match=r"isn't a \.tflite file"):
        Predictor(tmp_path / "empty.tflite")


def test_an_unknown_signature(stored_models):
    with pytest.raises(ValueError, match="no signature 'serve'"):
        Predictor(stored_models[0] / "int8.tflite", signature="serve")


def test_a_compiled_file_on_the_cpu(shared_data):
    with pytest.raises(ValueError, match="is compiled for an Edge TPU and doesn't run on the CPU"):
        Predictor(shared_data / "edgetpu" / "split_concat_edgetpu.tflite")


def test_a_plain_file_on_an_edge_tpu(small):
    with pytest.raises(ValueError, match="isn't compiled for the Edge TPU"):
        Predictor(small, device="usb:0")


@pytest.mark.parametrize("device", ["gpu", "usb:a", "edgetpu:1", "usb 0", ""])
def test_unknown_devices(small, device):
    with pytest.raises(ValueError, match="known are 'cpu', 'edgetpu'"):
        Predictor(small, device=device)


def test_the_edge_tpus_library_is_missing(shared_data):
    """Here it is missing indeed; with it and no device the message is about the device."""
    with pytest.raises(
        RuntimeError, match=r"libedgetpu\.so\.1 can't be loaded.*libedgetpu1-std|there is no Edge TPU at"
    ):
        Predictor(shared_data / "edgetpu" / "split_concat_edgetpu.tflite", device="usb:0")


def test_litert_needs_no_tensorflow(small):
    program = (
        "import sys, numpy; from keras_mobilenet.runtime import Predictor; "
        "Predictor(sys.argv[1]).predict(numpy.zeros((1, 128, 128, 3), 'uint8')); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(small)], check=True)
