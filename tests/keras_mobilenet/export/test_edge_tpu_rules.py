"""Rules one by one, on graphs made of the rows that `tflite_file.read` gives."""

import numpy as np
import pytest

from keras_mobilenet.export.edge_tpu import Reason, rules
from keras_mobilenet.export.edge_tpu.static_check import foretell
from keras_mobilenet.tflite_file import Operator, Quantization, Subgraph, Tensor, TFLiteFile

PICTURE = (1, 8, 8, 16)


class Graph:
    """Collects tensors and operators into a file with one graph."""

    def __init__(self):
        self.tensors, self.operators = [], []

    def tensor(self, shape, dtype="int8", value=None, scales=1, signature=None, is_variable=False):
        quantization = Quantization(np.full(scales, 0.5, np.float32), np.zeros(scales, np.int64), 0)
        raw = None if value is None else memoryview(np.asarray(value, dtype).tobytes())
        index = len(self.tensors)
        self.tensors.append(
            Tensor(index, f"t{index}", shape, signature or shape, dtype, quantization, raw, is_variable=is_variable)
        )
        return index

    def constant(self, value, dtype="int32", scales=1):
        value = np.asarray(value, dtype)
        return self.tensor(value.shape, dtype, value, scales)

    def add(self, name, inputs, shape=PICTURE, version=1, dtype="int8", is_custom=False, **options):
        output = self.tensor(shape, dtype)
        row = Operator(len(self.operators), name, version, tuple(inputs), (output,), options, is_custom)
        self.operators.append(row)
        return output

    def report(self, runtime=14):
        graph = Subgraph("main", tuple(self.tensors), tuple(self.operators), (0,), (len(self.tensors) - 1,))
        return foretell(TFLiteFile(3, "", (graph,), (), {}, 0), runtime)


@pytest.fixture
def graph():
    return Graph()


def judge(graph, runtime=14):
    """The row of the last operator."""
    return graph.report(runtime).operators[-1]


def convolution(graph, source, version=1, scales=1, **options):
    weights = graph.constant(np.ones((16, 1, 1, 16)), "int8", scales)
    return graph.add("CONV_2D", [source, weights, graph.constant(np.zeros(16))], version=version, **options)


def test_a_chain_maps(graph):
    picture = graph.tensor(PICTURE)
    convolution(graph, convolution(graph, picture, scales=16))
    report = graph.report()
    assert report.fully_mapped
    assert [operator.reason for operator in report.operators] == ["Mapped to Edge TPU"] * 2
    assert report.cached_bytes == 16 * (4 + 4 + 16) + 16 * (4 + 16)


@pytest.mark.parametrize(
    ("name", "refused"),
    [("CONV_2D", 6), ("TRANSPOSE_CONV", 4), ("QUANTIZE", 3), ("FULLY_CONNECTED", 9), ("RESHAPE", 2)],
)
def test_versions_that_are_refused(graph, name, refused):
    graph.add(name, [graph.tensor(PICTURE), graph.constant(np.ones((16, 1, 1, 16)), "int8")], version=refused)
    row = judge(graph)
    assert (row.mapped, row.reason, row.version) == (False, Reason.VERSION, refused)


# What Coral's files hold that its compiler mapped.
SEEN = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "ADD": 2,
    "AVERAGE_POOL_2D": 1,
    "MEAN": 2,
    "RESHAPE": 1,
    "SOFTMAX": 2,
    "QUANTIZE": 1,
    "FULLY_CONNECTED": 4,
}


@pytest.mark.parametrize(("name", "seen"), SEEN.items())
def test_versions_that_were_seen_to_compile_are_not_refused(name, seen):
    assert next(rule for rule in rules.RULES if rule.operator == name).newest_version >= seen


def test_the_table_names_operators_of_the_schema_once():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    names = [rule.operator for rule in rules.RULES]
    assert len(set(names)) == len(names)
    assert set(names) <= set(vars(schema.BuiltinOperator))


def test_unknown_and_custom_operators(graph):
    picture = graph.tensor(PICTURE)
    graph.add("LEAKY_RELU", [picture])
    assert judge(graph).reason == Reason.OPERATION
    graph.add("TFLite_Detection_PostProcess", [picture], (1, 10, 4), dtype="float32", is_custom=True)
    assert (judge(graph).reason, judge(graph).name) == (Reason.DATA_TYPE, "TFLite_Detection_PostProcess")
    graph.add("CONV_2D", [picture], is_custom=True)
    assert judge(graph).reason == Reason.OPERATION


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "int32", "int64", "bool"])
def test_activations_of_other_types(graph, dtype):
    graph.add("RELU", [graph.tensor(PICTURE)], dtype=dtype)
    assert judge(graph).reason == Reason.DATA_TYPE


def test_float_weights(graph):
    picture = graph.tensor(PICTURE)
    graph.add("CONV_2D", [picture, graph.constant(np.ones((16, 1, 1, 16)), "float32")])
    assert judge(graph).reason == Reason.DATA_TYPE


def test_float_at_both_ends_leaves_the_middle_mapped(graph):
    image = graph.tensor(PICTURE, "float32")
    stored = graph.add("QUANTIZE", [image])
    stored = convolution(graph, stored)
    graph.add("DEQUANTIZE", [stored], dtype="float32", version=2)
    first, middle, last = graph.report().operators
    assert (first.mapped, first.reason) == (False, Reason.LIMITATION)
    assert middle.mapped
    assert (last.mapped, last.reason) == (False, Reason.DATA_TYPE)


def test_what_follows_an_unmapped_operator_is_stranded_and_a_branch_beside_it_is_not(graph):
    picture = graph.tensor(PICTURE)
    trunk = convolution(graph, picture)
    odd = graph.add("EXP", [trunk])
    beside = convolution(graph, trunk)
    convolution(graph, graph.add("ADD", [odd, beside]))
    rows = graph.report().operators
    assert [row.mapped for row in rows] == [True, False, True, False, False]
    assert [row.reason for row in rows[3:]] == [Reason.SECOND_SUBGRAPH] * 2


def test_a_dynamic_size_refuses_the_whole_model(graph):
    picture = graph.tensor(PICTURE, signature=(-1, 8, 8, 16))
    convolution(graph, convolution(graph, picture))
    report = graph.report()
    assert not report.fully_mapped and report.cached_bytes == 0
    assert all(row.reason == Reason.DYNAMIC and "(-1, 8, 8, 16)" in row.detail for row in report.operators)


def test_several_graphs(graph):
    convolution(graph, graph.tensor(PICTURE))
    main = Subgraph("main", tuple(graph.tensors), tuple(graph.operators), (0,), (1,))
    report = foretell(TFLiteFile(3, "", (main, main), (), {}, 0))
    assert report.operators[0].reason == Reason.SECOND_SUBGRAPH


def limited(graph, name, inputs, shape=PICTURE, **options):
    graph.add(name, inputs, shape, **options)
    row = judge(graph)
    assert row.mapped == (row.reason == Reason.MAPPED)
    assert row.mapped or row.reason == Reason.LIMITATION
    return not row.mapped


def test_batches(graph):
    graph.add("RELU", [graph.tensor((2, 8, 8, 16))], (2, 8, 8, 16))
    assert judge(graph).reason == Reason.RANK


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pools(graph, name):
    picture = graph.tensor(PICTURE)
    assert not limited(graph, name, [picture], fused_activation_function="NONE")
    assert limited(graph, name, [picture], fused_activation_function="RELU6")


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions(graph, name):
    picture, weights = graph.tensor(PICTURE), graph.constant(np.ones((16, 1, 1, 16)), "int8")
    assert not limited(graph, name, [picture, weights], dilation_w_factor=2, dilation_h_factor=2)
    assert limited(graph, name, [picture, weights], dilation_w_factor=2, dilation_h_factor=1)
    assert limited(graph, name, [picture, graph.tensor((1, 1, 1, 16))])


def test_fully_connected(graph):
    vector, bias = graph.tensor((1, 16)), graph.constant(np.zeros(10))
    weights = graph.constant(np.ones((10, 16)), "int8")
    assert not limited(graph, "FULLY_CONNECTED", [vector, weights, bias], (1, 10), version=4)
    assert limited(graph, "FULLY_CONNECTED", [vector, weights, bias], (1, 10), weights_format=1)
    assert limited(graph, "FULLY_CONNECTED", [vector, weights, bias], (3, 10))
    per_channel = graph.constant(np.ones((10, 16)), "int8", scales=10)
    assert limited(graph, "FULLY_CONNECTED", [vector, per_channel, bias], (1, 10), version=4)


def test_concatenation(graph):
    picture = graph.tensor(PICTURE)
    zeros, ones = graph.constant(np.zeros(PICTURE), "int8"), graph.constant(np.ones(PICTURE), "int8")
    wide = (1, 8, 8, 32)
    assert not limited(graph, "CONCATENATION", [picture, picture, picture], (1, 8, 8, 48), axis=3)
    assert not limited(graph, "CONCATENATION", [picture, zeros], wide, axis=-1)
    assert limited(graph, "CONCATENATION", [picture, ones], wide)
    assert limited(graph, "CONCATENATION", [picture, picture, zeros], (1, 8, 8, 48))
    assert limited(graph, "CONCATENATION", [picture, picture], wide, fused_activation_function="RELU")


def test_mean(graph):
    small, large, odd = graph.tensor(PICTURE), graph.tensor((1, 256, 128, 3)), graph.tensor((1, 8, 8, 6))
    assert not limited(graph, "MEAN", [small, graph.constant([1, 2])], (1, 1, 1, 16))
    assert not limited(graph, "MEAN", [small, graph.constant([-1])], (1, 8, 8, 1))
    assert limited(graph, "MEAN", [large, graph.constant([1, 2])], (1, 1, 1, 3))
    assert limited(graph, "MEAN", [odd, graph.constant([3])], (1, 8, 8, 1))
    assert limited(graph, "MEAN", [small, graph.constant([0, 1])], (8, 16))
    assert limited(graph, "SUM", [small, graph.constant([0])], (8, 8, 16))


def test_softmax(graph):
    assert not limited(graph, "SOFTMAX", [graph.tensor((1, 16_000))], (1, 16_000))
    assert limited(graph, "SOFTMAX", [graph.tensor((1, 16_001))], (1, 16_001))
    assert limited(graph, "SOFTMAX", [graph.tensor(PICTURE)])


@pytest.mark.parametrize("name", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resizes(graph, name):
    size = graph.constant([16, 16])
    assert not limited(graph, name, [graph.tensor(PICTURE), size], (1, 16, 16, 16))
    assert not limited(graph, name, [graph.tensor((1, 64, 64, 32)), size], (1, 128, 128, 32))
    assert limited(graph, name, [graph.tensor((1, 256, 256, 32)), size], (1, 512, 512, 32))
    assert limited(graph, name, [graph.tensor((1, 1, 1, 256)), size], (1, 33, 33, 256))
    assert limited(graph, name, [graph.tensor(PICTURE), graph.tensor((2,), "int8")], (1, 16, 16, 16))


def test_shapes_and_slices(graph):
    picture = graph.tensor(PICTURE)
    assert not limited(graph, "RESHAPE", [picture, graph.constant([1, 1024])], (1, 1024))
    begin, end = graph.constant([0] * 4), graph.constant([1, 4, 4, 16])
    assert not limited(graph, "STRIDED_SLICE", [picture, begin, end, graph.constant([1] * 4)], (1, 4, 4, 16))
    assert limited(graph, "STRIDED_SLICE", [picture, begin, end, graph.constant([1, 2, 2, 1])], (1, 2, 2, 16))
    assert not limited(graph, "PAD", [picture, graph.constant([[0, 0], [1, 1], [1, 1], [0, 0]])], (1, 10, 10, 16))
    assert limited(graph, "PAD", [picture, graph.constant([[0, 1], [0, 0], [0, 0], [0, 0]])])
    row = graph.tensor((1, 8, 16))
    assert not limited(graph, "PACK", [row, row], (1, 2, 8, 16), axis=1)
    graph.add("PACK", [picture, picture], (1, 2, 8, 8, 16), axis=1)
    assert judge(graph).reason == Reason.RANK
    assert limited(graph, "PACK", [picture, picture], (1, 8, 8, 16), axis=0)
    assert limited(graph, "TRANSPOSE", [picture, graph.constant([0, 2, 1, 3])])


def test_prelu(graph):
    picture = graph.tensor(PICTURE)
    assert not limited(graph, "PRELU", [picture, graph.constant(np.ones((1, 1, 16)), "int8")])
    assert limited(graph, "PRELU", [picture, graph.constant(np.ones((8, 8, 16)), "int8")])


@pytest.mark.parametrize(("name", "since"), [("QUANTIZE", 13), ("SUM", 13), ("REDUCE_MAX", 14), ("LSTM", 14)])
def test_runtimes(graph, name, since):
    graph.add(name, [graph.tensor(PICTURE), graph.constant([1])], (1, 8, 1, 16))
    assert judge(graph, since).reason == Reason.MAPPED
    assert judge(graph, since - 1).reason == Reason.OPERATION


def test_what_exceeds_the_cache_is_streamed(graph):
    picture = graph.tensor((1, 1, 1, 4096))
    weights = graph.constant(np.ones((4096, 1, 1, 4096)), "int8")
    graph.add("CONV_2D", [picture, weights], (1, 1, 1, 4096))
    report = graph.report()
    assert report.cached_bytes + report.streamed_bytes == 4096 * 4100
    assert 6 << 20 < report.cached_bytes < 8 << 20
