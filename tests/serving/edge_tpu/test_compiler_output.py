"""The compiler isn't on the machines that test: its output stands in `transcripts/`.

Their form is that of compiler 16.0 in Coral's documentation and in the issues of github.com/google-coral/edgetpu (458
for several models, 512 for operators on the CPU); names and sizes are those of Coral's own pairs.
"""

from pathlib import Path

import pytest

from serving.edge_tpu import compiler_output
from serving.edge_tpu.compiler_output import OperatorRow

TRANSCRIPTS = Path(__file__).parent / "transcripts"


def read(name):
    return (TRANSCRIPTS / name).read_text()


def test_a_model_that_maps():
    report = compiler_output.parse(read("mobilenet.txt"))
    assert (report.version, report.milliseconds) == ("16.0.384591198", 231)
    (model,) = report.models
    assert (model.input_model, model.operation_log) == (
        "mobilenet_v1_0.25_128_quant.tflite",
        "mobilenet_v1_0.25_128_quant_edgetpu.log",
    )
    assert model.on_chip_bytes == round(553.62 * 1024)
    assert model.on_chip_remaining_bytes == round(7.32 * 1024**2)
    assert (model.off_chip_bytes, model.subgraphs, model.operations) == (0, 1, 31)
    assert (model.mapped, model.on_cpu) == (31, 0)


def test_the_log_of_a_model_left_in_part_on_the_cpu():
    rows = compiler_output.parse_rows(read("deeplab.log").splitlines())
    assert sum(row.count for row in rows if row.mapped) == 64
    left = [row for row in rows if not row.mapped]
    assert OperatorRow("CONV_2D", 2, "More than one subgraph is not supported") in left
    assert sum(row.count for row in left) == 8
    (model,) = compiler_output.parse(read("deeplab.txt")).models
    assert model.rows == ()


def test_several_models():
    report = compiler_output.parse(read("together.txt"))
    assert report.milliseconds == 524
    first, second = report.models
    assert (first.mapped, second.mapped) == (31, 3)
    assert second.on_chip_bytes == 192


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.00B", 0), ("192.00B", 192), ("5.75KiB", 5888), ("6.89MiB", 7224689), ("1.00GiB", 1 << 30)],
)
def test_sizes(text, expected):
    assert compiler_output.size(text) == expected


@pytest.mark.parametrize("text", ["", "MiB", "1.5 apples", "-1B"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="isn't a size"):
        compiler_output.size(text)


def test_output_without_a_model():
    with pytest.raises(ValueError, match="tells of no compiled model"):
        compiler_output.parse("Edge TPU Compiler version 15.0.340273435\n")


def test_a_line_that_is_missing():
    cut = read("mobilenet.txt").replace("Number of Edge TPU subgraphs: 1\n", "")
    with pytest.raises(ValueError, match="lacks the line 'Number of Edge TPU subgraphs'"):
        compiler_output.parse(cut)
