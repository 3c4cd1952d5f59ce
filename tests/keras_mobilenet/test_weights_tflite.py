"""Quantized `.tflite` files of Coral, beside the files themselves and LiteRT running them."""

import ai_edge_litert.interpreter as litert
import numpy as np
import pytest
import tensorflow as tf

import keras_mobilenet as km
from keras_mobilenet import tflite_file

V1, V2, PTQ = (
    "mobilenet_v1_0.25_128_quant.tflite",
    "mobilenet_v2_1.0_224_quant.tflite",
    "tf2_mobilenet_v2_1.0_224_ptq.tflite",
)


def v1(**options):
    return km.MobileNetV1(**{"alpha": 0.25, "input_shape": (128, 128, 3)} | options)


@pytest.fixture
def weights(shared_data):
    return shared_data / "weights"


def weighted_operators(path):
    graph = tflite_file.read(path).main
    return [(op, *graph.input_tensors(op)) for op in graph.operators if "CONV_2D" in op.name]


@pytest.mark.parametrize(
    ("name", "build", "convolution", "operator"),
    [
        (V1, v1, "conv_pw_3", 6),
        (V1, v1, "conv_dw_2", 3),
        (V2, km.MobileNetV2, "block_1_depthwise", 4),
        (PTQ, km.MobileNetV2, "block_1_depthwise", 4),
        (PTQ, km.MobileNetV2, "Conv_1", 51),
    ],
)
def test_kernels_and_offsets_are_those_of_the_file(name, build, convolution, operator, weights):
    model = build(weights=weights / name)
    op, image, kernel, bias = weighted_operators(weights / name)[operator]
    scale, zero = kernel.quantization.scale, kernel.quantization.zero_point
    axis = -1 if op.name == "DEPTHWISE_CONV_2D" else 0
    real = np.moveaxis(np.moveaxis(kernel.value.astype(np.float64), axis, -1) * scale - zero * scale, -1, axis)
    layer = model.get_layer(convolution)
    ours = np.asarray(layer.kernel)
    expected = real[0][..., None] if op.name == "DEPTHWISE_CONV_2D" else real.transpose(1, 2, 3, 0)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-9)
    norm = next(model.get_layer(convolution + end) for end in ("_bn", "_BN") if _has(model, convolution + end))
    np.testing.assert_allclose(norm.beta, bias.value * image.quantization.scale * scale, rtol=1e-5)
    x = np.linspace(-8, 8, 4 * len(bias.value), dtype=np.float32).reshape(1, 2, 2, -1)
    np.testing.assert_allclose(norm(x, training=False), x + np.asarray(norm.beta), atol=2e-6)


def _has(model, name):
    return any(layer.name == name for layer in model.layers)


def test_the_background_class_is_dropped(weights):
    _, image, kernel, bias = weighted_operators(weights / V1)[-1]
    expected = bias.value * image.quantization.scale * kernel.quantization.scale
    assert len(expected) == 1001
    np.testing.assert_allclose(v1(weights=weights / V1).get_layer("conv_preds").bias, expected[1:], rtol=1e-5)
    with_background = v1(weights=weights / V1, classes=1001)
    np.testing.assert_allclose(with_background.get_layer("conv_preds").bias, expected, rtol=1e-5)


def test_outputs_follow_the_original(weights, shared_data):
    paths = sorted((shared_data / "imagenet" / "ccby400").iterdir())[:24]
    pictures = np.stack([km.decode_and_resize(path.read_bytes(), (128, 128)) for path in paths])
    ours = v1(weights=weights / V1).predict_on_batch(km.preprocess_input(pictures))
    interpreter = litert.Interpreter(str(weights / V1))
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    theirs = []
    for picture in np.rint(pictures).astype(np.uint8):
        interpreter.set_tensor(image, picture[None])
        interpreter.invoke()
        theirs.append(interpreter.get_tensor(output)[0, 1:] / 256)
    theirs = np.array(theirs)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]
    assert np.median(correlations) > 0.95
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() > 0.75


@pytest.mark.parametrize("options", [{"include_top": False}, {"output_stride": 16}, {"input_shape": (96, 160, 3)}])
def test_the_backbone_fits_at_any_size_and_stride(options, weights):
    model, plain = v1(weights=weights / V1, **options), v1(weights=weights / V1)
    for name in ("conv1", "conv_dw_13", "conv_pw_13"):
        assert np.array_equal(model.get_layer(name).kernel, plain.get_layer(name).kernel)


def test_a_classifier_of_other_classes_keeps_its_values(weights):
    model = v1(classes=10)
    before = model.get_layer("conv_preds").get_weights()
    with pytest.warns(UserWarning, match="`conv_preds`: left at their initial values"):
        km.load_weights(model, weights / V1)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_layer("conv_preds").get_weights(), before, strict=True))
    assert not np.array_equal(model.get_layer("conv1").kernel, v1().get_layer("conv1").kernel)


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (lambda: v1(alpha=0.5), V1, "MobileNetV1 with alpha=0.25 and 1001 classes"),
        (lambda: v1(), V2, "MobileNetV2 with alpha=1 and 1001 classes"),
        (lambda: v1(shallow=True), V1, "28 layers with weights, the model 17"),
        (lambda: v1(convolution="standard"), V1, "does not fit"),
        (lambda: km.MobileNetV2(shortcut=None), V2, "it adds 10 shortcuts, the model 0"),
        (lambda: km.MobileNetV2(bottleneck_activation="relu6"), V2, "no ReLU6 behind `expanded_conv_project`"),
        (lambda: v1(), "deeplabv3_mnv2_dm05_pascal_quant.tflite", "55 layers with weights, the model 27"),
        (lambda: v1(), "../edgetpu/keras_lstm_mnist_ptq.tflite", "operator UNIDIRECTIONAL_SEQUENCE_LSTM"),
        (lambda: v1(), "../edgetpu/mobilenet_v1_0.25_128_quant_edgetpu.tflite", "compiled for the Edge TPU"),
    ],
)
def test_another_network_changes_nothing(build, name, message, weights):
    model = build()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        km.load_weights(model, weights / name)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


def test_a_truncated_file_changes_nothing(weights, tmp_path):
    content, model = (weights / V1).read_bytes(), v1()
    before = model.get_weights()
    path = tmp_path / "truncated.tflite"
    for length in (0, 5, 8, 100, len(content) // 4, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"truncated\.tflite"):
            km.load_weights(model, path)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("types", [[], [tf.float16]])
def test_converted_models_come_back(types, tmp_path):
    model = km.MobileNetV2((32, 32, 3), 0.35, classes=7)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if types:
        converter.optimizations, converter.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], types
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    pictures = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    again = km.MobileNetV2((32, 32, 3), 0.35, classes=7, weights=tmp_path / "model.tflite")
    np.testing.assert_allclose(again(pictures), model(pictures), atol=2e-3 if types else 1e-5)
