"""What a converted file says of itself, read as others read it."""

import io
import zipfile

import numpy as np
import pytest
from flatbuffers import encode, flexbuffers, number_types
from flatbuffers.table import Table
from tensorflow_serving.apis import get_model_metadata_pb2

import keras_mobilenet as km
from keras_mobilenet import tflite_file
from keras_mobilenet.export import tflite_metadata
from tests.keras_mobilenet.optimization.networks import images, small

LABELS = ["daisy", "dandelion", "rose", "sunflower", "Tulpe für München"]


class Node:
    """A table of a flatbuffer, read by the places of its fields in metadata_schema.fbs."""

    def __init__(self, buffer, position):
        self.table = Table(buffer, position)

    @classmethod
    def root(cls, buffer):
        return cls(buffer, encode.Get(number_types.UOffsetTFlags.packer_type, buffer, 0))

    def _at(self, field):
        return self.table.Pos + self.table.Offset(4 + 2 * field)

    def text(self, field):
        return self.table.String(self._at(field)).decode() if self.table.Offset(4 + 2 * field) else None

    def byte(self, field):
        return self.table.Get(number_types.Uint8Flags, self._at(field))

    def node(self, field):
        return Node(self.table.Bytes, self.table.Indirect(self._at(field)))

    def nodes(self, field):
        offset = self.table.Offset(4 + 2 * field)
        start = self.table.Vector(offset)
        return [Node(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(self.table.VectorLen(offset))]

    def floats(self, field):
        return self.table.GetVectorAsNumpy(number_types.Float32Flags, self.table.Offset(4 + 2 * field)).tolist()


def facts(content):
    """What readers of TFLite metadata look for."""
    model = Node.root(bytes(tflite_file.read(content).metadata["TFLITE_METADATA"]))
    (graph,) = model.nodes(3)
    (image,), (output,) = graph.nodes(2), graph.nodes(3)
    (unit,) = image.nodes(4)
    (file,) = output.nodes(6)
    return {
        "parser": model.text(7),
        "input": image.text(0),
        "content": (image.node(3).byte(0), image.node(3).node(1).byte(0)),
        "normalization": (unit.byte(0), unit.node(1).floats(0), unit.node(1).floats(1)),
        "output content": output.node(3).byte(0),
        "labels": file.byte(2),
        "labels file is attached": file.text(0) in zipfile.ZipFile(io.BytesIO(content)).namelist(),
    }


@pytest.fixture(scope="module")
def content():
    return km.convert_tflite(km.quantize_aware(small(), images()), "int8", labels=LABELS)


def test_metadata_says_what_that_of_corals_file_does(content, shared_data):
    path = shared_data / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    peer = facts(path.read_bytes())
    assert peer["normalization"] == (1, [127.5], [127.5])
    assert facts(content) == peer


def test_labels_are_attached(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == LABELS


def test_without_labels_nothing_is_attached_nor_announced():
    metadata = Node.root(tflite_metadata.tflite_metadata("m", ["image"], ["features"], scores=False, labels=False))
    (output,) = metadata.nodes(3)[0].nodes(3)
    assert output.text(0) == "features"
    assert not output.table.Offset(4 + 2 * 6)


def test_the_archive_of_labels_bears_no_date():
    assert tflite_metadata.attach_labels(b"model", LABELS) == tflite_metadata.attach_labels(b"model", LABELS)


def test_tf_serving_finds_the_signature(content):
    file = tflite_file.read(content)
    entries = flexbuffers.GetRoot(bytes(file.metadata["signature_defs_metadata"])).AsMap
    assert [key.AsKey for key in entries.Keys] == ["serving_default"]
    (value,) = entries.Values
    assert value.IsString  # C++ reads another type as an empty string, and a string up to its first zero
    assert 0 not in value.AsStringBytes
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signatures.signature_def["serving_default"].ParseFromString(bytes(value.AsStringBytes))
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    found = {
        key: (info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim])
        for key, info in (*signature.inputs.items(), *signature.outputs.items())
    }
    uint8 = 4  # DT_UINT8
    assert found == {
        "image": ("image", uint8, [1, 32, 32, 3]),
        "probabilities": ("probabilities", uint8, [1, 5]),
    }
    names = [file.main.tensors[i].name for i in (*file.main.inputs, *file.main.outputs)]
    assert names == ["image", "probabilities"]
    assert len({tensor.name for tensor in file.main.tensors}) == len(file.main.tensors)


def test_constants_lie_as_the_schema_asks(content):
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    constants = [t.raw for t in tflite_file.read(content).main.tensors if t.is_constant]
    offsets = {np.frombuffer(raw, np.uint8).__array_interface__["data"][0] - start for raw in constants}
    assert len(offsets) > 10
    assert all(offset % 16 == 0 for offset in offsets)
