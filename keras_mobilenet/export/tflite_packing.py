"""Names, a signature and metadata put into what the converter wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from keras_mobilenet import tflite_file

_ALIGNMENT = 16  # of constants, as the schema asks; the converter's own Python code keeps 4


class _Buffer(schema.BufferT):
    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is None or not len(self.data):
            return super().Pack(builder)
        data = bytes(self.data)
        builder.StartVector(1, len(data), _ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class Packing:
    """A converted file, taken apart so that it can be changed and put together again."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        self.graph = self.model.subgraphs[0]
        self.size = len(content)

    def rename(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Names the tensors that go in and out; one inside that has such a name gets another."""
        names = dict(zip(self.graph.inputs, inputs, strict=True)) | dict(zip(self.graph.outputs, outputs, strict=True))
        for index, tensor in enumerate(self.graph.tensors):
            if tensor.name.decode() in names.values():
                tensor.name = tensor.name + f"_{index}".encode()
        for index, name in names.items():
            self.graph.tensors[index].name = name.encode()

    def specs(self, indices: Sequence[int]) -> list[tf.TensorSpec]:
        """Names, shapes and types of tensors."""
        names = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
        tensors = [self.graph.tensors[index] for index in indices]
        return [tf.TensorSpec(list(x.shape), names[x.type], _text(x.name)) for x in tensors]

    def sign(self, key: str) -> None:
        """Adds a signature with the names of the tensors that go in and out."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, 0
        signature.inputs = [self._entry(index) for index in self.graph.inputs]
        signature.outputs = [self._entry(index) for index in self.graph.outputs]
        self.model.signatureDefs = [signature]

    def free_rows(self) -> None:
        """Lets RESHAPE keep whatever number of rows arrives, so that a runtime may resize the input to a batch."""
        kinds = [code.builtinCode for code in self.model.operatorCodes]
        for operator in self.graph.operators:
            if kinds[operator.opcodeIndex] == schema.BuiltinOperator.RESHAPE and len(operator.inputs) > 1:
                buffer = self.model.buffers[self.graph.tensors[operator.inputs[1]].buffer]
                shape = np.frombuffer(bytes(buffer.data), np.int32).copy()
                if shape[0] == 1 and -1 not in shape:
                    shape[0] = -1
                    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)

    def add_metadata(self, buffers: Mapping[str, bytes]) -> None:
        """Adds named buffers."""
        for name, data in buffers.items():
            buffer, entry = schema.BufferT(), schema.MetadataT()
            buffer.data = np.frombuffer(data, np.uint8)
            entry.name, entry.buffer = name, len(self.model.buffers)
            self.model.buffers.append(buffer)
            self.model.metadata = [*(self.model.metadata or []), entry]

    def add_constant(self, name: str, values: np.ndarray) -> int:
        """Adds a float32 constant, and gives the number of its tensor."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return self.add_tensor(name, values.shape, len(self.model.buffers) - 1)

    def add_tensor(self, name: str, shape: Sequence[int], buffer: int = 0) -> int:
        """Adds a float32 tensor, and gives its number; buffer 0 is that of tensors without stored values."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), np.array(shape, np.int32), buffer
        tensor.type = schema.TensorType.FLOAT32
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add_custom_operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes) -> None:
        """Adds a custom operator behind all others."""
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = name.encode(), 1
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        operator.customOptions = np.frombuffer(options, np.uint8)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)

    def pack(self) -> bytes:
        """The file."""
        for buffer in self.model.buffers:
            buffer.__class__ = _Buffer
        builder = flatbuffers.Builder(self.size + (1 << 16))
        builder.Finish(self.model.Pack(builder), file_identifier=tflite_file.IDENTIFIER)
        return bytes(builder.Output())

    def _entry(self, index: int) -> Any:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = self.graph.tensors[index].name, index
        return entry


def _text(name: bytes | str) -> str:
    """A name as read from a file, or as given."""
    return name.decode() if isinstance(name, bytes) else name
