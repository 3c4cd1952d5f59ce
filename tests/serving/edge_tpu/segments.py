"""Cuts a .tflite file in two, as the compiler's --num_segments does: the same tensors, the operators shared out."""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def cut(content: bytes, at: int) -> tuple[bytes, bytes]:
    """Returns the operators before `at` as one file and the others as the next."""
    return _part(content, slice(0, at)), _part(content, slice(at, None))


def _part(content: bytes, kept: slice) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    (graph,) = model.subgraphs
    operators = graph.operators[kept]
    made = {int(index) for operator in operators for index in operator.outputs}
    read = {int(index) for operator in operators for index in operator.inputs if index >= 0}
    constant = {index for index, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    all_read = {int(index) for operator in graph.operators for index in operator.inputs}
    outside = all_read - read | {int(index) for index in graph.outputs}
    graph.operators = operators
    graph.inputs = sorted(read - made - constant)
    graph.outputs = sorted(made & outside)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
