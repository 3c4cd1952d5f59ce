import random
import subprocess
import sys

import pytest

from keras_mobilenet.export import edge_tpu

# The table of ../shared/reference/edge_tpu.md: name, operators, left on the CPU, cached bytes, streamed bytes.
DEEPLAB_ON_CPU = (
    ("RESIZE_BILINEAR", "QUANTIZE", "CONCATENATION", "CONV_2D", "CONV_2D") + ("RESIZE_BILINEAR",) * 2 + ("ARG_MAX",)
)
PAIRS = [
    ("mobilenet_v1_0.25_128_quant", 31, (), 566_912, 0),
    ("deeplabv3_mnv2_dm05_pascal_quant", 72, DEEPLAB_ON_CPU, 766_720, 0),
    ("split_concat", 3, (), 192, 0),
    ("keras_lstm_mnist_ptq", 6, (), 43_968, 576),
]
pairs = pytest.mark.parametrize(("name", "operators", "on_cpu", "cached", "streamed"), PAIRS)


@pytest.fixture(scope="session")
def folder(shared_data):
    return shared_data / "edgetpu"


@pairs
def test_inspect_reads_compiled_files(folder, name, operators, on_cpu, cached, streamed):
    compiled = edge_tpu.inspect(folder / f"{name}_edgetpu.tflite")
    assert compiled.cpu_operators == on_cpu
    assert (compiled.cached_bytes, compiled.streamed_bytes) == (cached, streamed)
    assert compiled.min_runtime == (13 if name == "split_concat" else 12)
    assert compiled.caching_token > 0
    assert compiled.subgraphs == 1


@pairs
def test_check_foretells_what_the_compiled_file_shows(folder, name, operators, on_cpu, cached, streamed):
    report = edge_tpu.check(folder / f"{name}.tflite")
    assert len(report.operators) == operators
    assert report.cpu_operators == on_cpu
    assert report.fully_mapped is (not on_cpu)
    assert report.cached_bytes == pytest.approx(cached, rel=0.2)
    assert report.streamed_bytes == streamed


@pytest.mark.parametrize(("name", "cached"), [(PAIRS[0][0], 566_912), (PAIRS[1][0], 766_720), (PAIRS[2][0], 192)])
def test_the_layout_of_convolutions_is_known_to_the_byte(folder, name, cached):
    assert edge_tpu.check(folder / f"{name}.tflite").cached_bytes == cached


def test_co_compiled_models_share_what_one_alone_caches(folder):
    alone = edge_tpu.inspect(folder / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    together = edge_tpu.inspect(folder / "mobilenet_v1_0.25_128_quant_cocompiled_with_3quant_edgetpu.tflite")
    assert together.cached_bytes + together.streamed_bytes == alone.cached_bytes
    assert together.streamed_bytes > 0
    assert together.caching_token != alone.caching_token


def test_reasons_are_the_compilers_words(folder):
    report = edge_tpu.check(folder / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    reasons = [operator.reason for operator in report.operators]
    assert set(reasons[:64]) == {"Mapped to Edge TPU"}
    assert reasons[64] == "Operation is otherwise supported, but not mapped due to some unspecified limitation"
    assert reasons[65] == "More than one subgraph is not supported"
    assert reasons[71] == "Operation is working on an unsupported data type"
    assert "33 times" in report.operators[64].detail


@pytest.mark.parametrize(
    "name", ["mobilenet_v1_0.5_160_quant", "mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq"]
)
def test_corals_classifiers_map(shared_data, name):
    path = shared_data / "weights" / f"{name}.tflite"
    report = edge_tpu.check(path)
    assert report.fully_mapped
    assert 0.95 < report.cached_bytes / path.stat().st_size < 1.2
    assert report.streamed_bytes == 0


def test_bytes_are_taken_like_a_path(folder):
    path = folder / "keras_lstm_mnist_ptq.tflite"
    assert edge_tpu.check(path.read_bytes()) == edge_tpu.check(path)
    path = folder / "keras_lstm_mnist_ptq_edgetpu.tflite"
    assert edge_tpu.inspect(path.read_bytes()) == edge_tpu.inspect(str(path))


def test_an_older_runtime_knows_fewer_operators(folder):
    report = edge_tpu.check(folder / "keras_lstm_mnist_ptq.tflite", runtime=10)
    assert not report.fully_mapped
    assert "needs runtime 13" in report.operators[0].detail
    with pytest.raises(ValueError, match="runtime is 15; known are 10 to 14"):
        edge_tpu.check(folder / "keras_lstm_mnist_ptq.tflite", runtime=15)


def test_a_compiled_file_is_not_checked_again(folder):
    with pytest.raises(ValueError, match="already compiled"):
        edge_tpu.check(folder / "split_concat_edgetpu.tflite")


def test_an_original_is_not_inspected(folder):
    with pytest.raises(ValueError, match="isn't compiled for the Edge TPU"):
        edge_tpu.inspect(folder / "split_concat.tflite")


@pytest.mark.parametrize("function", [edge_tpu.check, edge_tpu.inspect])
def test_foreign_and_missing_files(tmp_path, function):
    with pytest.raises(ValueError, match=r"isn't a \.tflite file"):
        function(b"GIF89a" + bytes(100))
    with pytest.raises(FileNotFoundError):
        function(tmp_path / "none.tflite")


def test_truncated_compiled_files(folder):
    data = (folder / "keras_lstm_mnist_ptq_edgetpu.tflite").read_bytes()
    for size in (100, 2000, len(data) // 2, len(data) - 50):
        with pytest.raises(ValueError, match="truncated or damaged"):
            edge_tpu.inspect(data[:size])


def test_a_damaged_package(folder):
    data = (folder / "split_concat_edgetpu.tflite").read_bytes()
    with pytest.raises(ValueError, match="its identifier is b'XXXX'"):
        edge_tpu.inspect(data.replace(b"DWN1", b"XXXX"))
    place = data.index(b"DWN1")
    with pytest.raises(ValueError, match=r"part for the Edge TPU is damaged|isn't compiled"):
        edge_tpu.inspect(data[: place - 4] + b"\xff\xff\xff\x7f" + data[place:])


@pytest.mark.parametrize(
    ("function", "name"), [(edge_tpu.check, "split_concat"), (edge_tpu.inspect, "split_concat_edgetpu")]
)
def test_damage_is_a_value_error_or_harmless(folder, function, name):
    data = (folder / f"{name}.tflite").read_bytes()
    dice = random.Random(3)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[dice.randrange(8, min(len(data), 3000))] = dice.choice((0, 255, dice.randrange(256)))
        try:
            function(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 20


def test_neither_needs_tensorflow(folder):
    program = (
        "import sys; from keras_mobilenet.export import edge_tpu; "
        "edge_tpu.check(sys.argv[1]); edge_tpu.inspect(sys.argv[2]); sys.exit('tensorflow' in sys.modules)"
    )
    name = str(folder / "split_concat")
    subprocess.run([sys.executable, "-c", program, f"{name}.tflite", f"{name}_edgetpu.tflite"], check=True)
