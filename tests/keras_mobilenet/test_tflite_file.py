import random
import subprocess
import sys

import numpy as np
import pytest

from keras_mobilenet import tflite_file

MODELS = [
    "weights/mobilenet_v1_0.25_128_quant.tflite",
    "weights/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "edgetpu/deeplabv3_mnv2_dm05_pascal_quant.tflite",
    "edgetpu/keras_lstm_mnist_ptq.tflite",
]


@pytest.mark.parametrize("name", MODELS)
def test_tensors_agree_with_the_interpreter(shared_data, name):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        str(shared_data / name), experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    graph = tflite_file.read(shared_data / name).main
    assert list(graph.inputs) == [detail["index"] for detail in interpreter.get_input_details()]
    assert list(graph.outputs) == [detail["index"] for detail in interpreter.get_output_details()]
    constants = 0
    for tensor in graph.tensors:
        detail = interpreter._get_tensor_details(tensor.index, 0)
        assert tensor.name == detail["name"]
        assert tensor.shape == tuple(detail["shape"])
        assert np.dtype(tensor.dtype) == detail["dtype"]
        parameters = detail["quantization_parameters"]
        if tensor.quantization is None:
            assert not parameters["scales"].size
        else:
            np.testing.assert_array_equal(tensor.quantization.scale, parameters["scales"])
            np.testing.assert_array_equal(tensor.quantization.zero_point, parameters["zero_points"])
            assert tensor.quantization.dimension == parameters["quantized_dimension"]
        if tensor.is_constant:
            constants += 1
            np.testing.assert_array_equal(tensor.value, interpreter.get_tensor(tensor.index))
    assert constants > 5


def test_operators_carry_their_options(shared_data):
    graph = tflite_file.read(shared_data / MODELS[0]).main
    assert len(graph.operators) == 31
    first, second = graph.operators[:2]
    assert (first.name, first.version, second.name) == ("CONV_2D", 1, "DEPTHWISE_CONV_2D")
    assert first.options["stride_h"] == first.options["stride_w"] == 2
    assert first.options["padding"] is tflite_file.Padding.SAME
    assert first.options["dilation_h_factor"] == 1
    assert first.options["fused_activation_function"] == "RELU6"
    assert second.options["depth_multiplier"] == 1
    image, kernel, bias = graph.input_tensors(first)
    assert image.shape == (1, 128, 128, 3) and not image.is_constant
    assert kernel.shape == (8, 3, 3, 3) and kernel.value.dtype == np.uint8
    assert bias.dtype == "int32"


def test_optional_inputs_are_none(shared_data):
    graph = tflite_file.read(shared_data / "edgetpu/keras_lstm_mnist_ptq.tflite").main
    lstm = next(op for op in graph.operators if op.name == "UNIDIRECTIONAL_SEQUENCE_LSTM")
    assert None in graph.input_tensors(lstm)


def test_signature_and_metadata(shared_data):
    model = tflite_file.read(shared_data / "edgetpu/keras_lstm_mnist_ptq.tflite")
    (signature,) = model.signatures
    assert signature.key == "serving_default"
    assert list(signature.inputs.values()) == list(model.main.inputs)
    assert list(signature.outputs.values()) == list(model.main.outputs)
    assert bytes(model.metadata["min_runtime_version"]).rstrip(b"\0")


def test_dequantized_per_channel(shared_data):
    graph = tflite_file.read(shared_data / "weights/tf2_mobilenet_v2_1.0_224_ptq.tflite").main
    convolution = next(op for op in graph.operators if op.name == "CONV_2D")
    kernel = graph.input_tensors(convolution)[1]
    assert kernel.quantization.per_channel and kernel.quantization.dimension == 0
    channel = 3
    expected = kernel.value[channel].astype(np.float32) * kernel.quantization.scale[channel]
    np.testing.assert_allclose(kernel.dequantized()[channel], expected)
    assert kernel.dequantized().dtype == np.float32


def test_bytes_and_path_agree(shared_data):
    path = shared_data / MODELS[0]
    from_bytes, from_path = tflite_file.read(path.read_bytes()), tflite_file.read(str(path))
    assert [op.name for op in from_bytes.main.operators] == [op.name for op in from_path.main.operators]
    assert from_bytes.size == path.stat().st_size


def test_an_activation_has_no_value(shared_data):
    graph = tflite_file.read(shared_data / MODELS[0]).main
    with pytest.raises(ValueError, match="computed when the model runs"):
        graph.tensors[graph.inputs[0]].value  # noqa: B018


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4" + bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(1000)])
def test_foreign_files(tmp_path, content):
    (tmp_path / "foreign.tflite").write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.tflite isn't a \.tflite file"):
        tflite_file.read(tmp_path / "foreign.tflite")
    with pytest.raises(ValueError, match=r"isn't a \.tflite file"):
        tflite_file.read(content)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        tflite_file.read(tmp_path / "none.tflite")


@pytest.mark.parametrize("head", [b"", b"\x1c\0\0\0TFL3"])
def test_more_than_the_format_holds_is_refused_without_reading_it(tmp_path, head):
    with open(tmp_path / "huge.tflite", "wb") as file:
        file.write(head)
        file.truncate(1 << 31)
    with pytest.raises(ValueError, match=r"2,147,483,648 bytes|isn't a \.tflite file"):
        tflite_file.read(tmp_path / "huge.tflite")


@pytest.mark.parametrize("name", MODELS)
def test_truncated_files(shared_data, name):
    data = (shared_data / name).read_bytes()
    for part in (9, 64, 1000, len(data) // 4, len(data) // 2, len(data) * 3 // 4, len(data) - 100):
        with pytest.raises(ValueError, match="truncated or damaged"):
            tflite_file.read(data[:part])


def test_damage_is_a_value_error_or_harmless(shared_data):
    data = (shared_data / "edgetpu/split_concat.tflite").read_bytes()
    dice = random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(4):
            damaged[dice.randrange(8, len(data))] = dice.randrange(256)
        try:
            tflite_file.read(damaged)
        except ValueError as error:
            assert "truncated or damaged" in str(error)
            refused += 1
    assert refused > 50


def test_reading_needs_no_tensorflow(shared_data):
    pytest.importorskip("ai_edge_litert")
    program = (
        "import sys; from keras_mobilenet import tflite_file; tflite_file.read(sys.argv[1]); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(shared_data / MODELS[0])], check=True)
