"""What a .tflite file says of itself: TFLite metadata and TF Serving's signature.

TFLite metadata (normalisation, labels) is a flatbuffer of its own schema, which no installable package brings along, so
it is built table by table here; labels are a zip archive behind the file. TF Serving reads signatures from another
buffer, a FlexBuffer map, and from nowhere else.

Source: metadata_schema.fbs of tflite-support 0.4.4; signature_def_util.cc of TensorFlow Lite.
"""

import io
import zipfile
from collections.abc import Sequence

import flatbuffers
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.protobuf import meta_graph_pb2

LABELS_FILE = "labels.txt"
METADATA = "TFLITE_METADATA"
SIGNATURES = "signature_defs_metadata"
SIGNATURE_KEY = "serving_default"
_PREDICT = "tensorflow/serving/predict"
_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"  # the oldest that knows all fields used here
_MIDDLE = 127.5  # (pixel - 127.5) / 127.5 is what the networks read

# Numbers of the schema: unions' members, enumerations' values.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_RGB = 1
_NORMALIZATION = 1
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_CLASS_NUMBERS = ("classes", "class_map")  # outputs of a detector and of a segmenter whose values are classes


def tflite_metadata(name: str, inputs: Sequence[str], outputs: Sequence[str], *, scores: bool, labels: bool) -> bytes:
    """Builds the buffer `TFLITE_METADATA`.

    Args:
        name: Name of the model.
        inputs: Names of its inputs: RGB pictures, (pixel - 127.5) / 127.5.
        outputs: Names of its outputs.
        scores: Whether each output is probabilities, 0 to 1.
        labels: Whether `LABELS_FILE` behind the model names classes: those of the first output's axis, or of a
            detector the values of `classes`, of a segmenter those of `class_map`.

    Returns:
        The serialized flatbuffer `ModelMetadata`.
    """
    tables = _Tables()
    pictures = [tables.picture(each) for each in inputs]
    numbers = [each for each in outputs if each in _CLASS_NUMBERS]
    labelled = (numbers or outputs)[0] if labels else None
    kind = _VALUE_LABELS if numbers else _AXIS_LABELS
    results = [tables.result(each, scores, kind if each == labelled else None) for each in outputs]
    subgraph = tables.table(7, {2: tables.vector(pictures), 3: tables.vector(results)})
    model = tables.table(
        8,
        {
            0: tables.text(name),
            3: tables.vector([subgraph]),
            7: tables.text(_PARSER_VERSION),
        },
    )
    return tables.finish(model)


class _Tables:
    """Tables of the metadata schema; numbers of fields are their places in it."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def picture(self, name: str) -> int:
        properties = self.table(2, {}, bytes_={0: _RGB})
        content = self.table(3, {1: properties}, bytes_={0: _IMAGE_PROPERTIES})
        options = self.table(2, {0: self.floats([_MIDDLE]), 1: self.floats([_MIDDLE])})
        unit = self.table(2, {1: options}, bytes_={0: _NORMALIZATION})
        stats = self.table(2, {0: self.floats([1.0]), 1: self.floats([-1.0])})
        description = self.text("RGB picture")
        return self.table(7, {0: self.text(name), 1: description, 3: content, 4: self.vector([unit]), 5: stats})

    def result(self, name: str, scores: bool, labels: int | None) -> int:
        content = self.table(3, {1: self.table(0, {})}, bytes_={0: _FEATURE_PROPERTIES})
        fields = {0: self.text(name), 3: content}
        if scores:
            fields[1] = self.text("Probability of each class")
            fields[5] = self.table(2, {0: self.floats([1.0]), 1: self.floats([0.0])})
        if labels is not None:
            file = self.table(5, {0: self.text(LABELS_FILE)}, bytes_={2: labels})
            fields[6] = self.vector([file])
        return self.table(7, fields)

    def table(self, size: int, offsets: dict[int, int], bytes_: dict[int, int] | None = None) -> int:
        self.builder.StartObject(size)
        for field, offset in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, value in (bytes_ or {}).items():
            self.builder.PrependUint8Slot(field, value, 0)
        return self.builder.EndObject()

    def text(self, value: str) -> int:
        return self.builder.CreateString(value)

    def floats(self, values: list[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return self.builder.EndVector()

    def vector(self, tables: list[int]) -> int:
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return self.builder.EndVector()

    def finish(self, root: int) -> bytes:
        self.builder.Finish(root, file_identifier=_IDENTIFIER)
        return bytes(self.builder.Output())


def serving_signatures(inputs: Sequence[tf.TensorSpec], outputs: Sequence[tf.TensorSpec]) -> bytes:
    """Builds the buffer `signature_defs_metadata`, from which TF Serving with `--prefer_tflite_model` takes signatures.

    Args:
        inputs: Names, shapes and types of the file's inputs.
        outputs: Those of its outputs.

    Returns:
        FlexBuffer map: signature key -> serialized `SignatureDef`, whose names are those of the tensors.
    """
    signature = meta_graph_pb2.SignatureDef(method_name=_PREDICT)
    for infos, specs in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for spec in specs:
            infos[spec.name].name = spec.name
            infos[spec.name].dtype = spec.dtype.as_datatype_enum
            infos[spec.name].tensor_shape.CopyFrom(spec.shape.as_proto())
    serialized = signature.SerializeToString(deterministic=True)
    if 0 in serialized:  # TF Serving reads up to the first zero; a scalar's shape has one
        raise ValueError(f"TF Serving can't read the signature of {[*inputs, *outputs]}: an output has no dimension.")
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key(SIGNATURE_KEY)
        # TF Serving wants a string. One may hold any bytes, but the builder's own method encodes text as UTF-8.
        builder._WriteBlob(serialized, append_zero=True, type_=flexbuffers.Type.STRING)
    return bytes(builder.Finish())


def attach_labels(content: bytes, labels: Sequence[str]) -> bytes:
    """Appends `LABELS_FILE`, one label a line, as a zip archive; TFLite reads the file as before."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(LABELS_FILE)  # dated 1980: equal models give equal files
        archive.writestr(entry, "".join(f"{label}\n" for label in labels))
    return stream.getvalue()
