import subprocess
import sys

import pytest
from google.protobuf import unknown_fields

from keras_mobilenet import wire


def wheel_classes():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        predict_pb2,
    )

    return [
        tensor_pb2.TensorProto,
        predict_pb2.PredictRequest,
        predict_pb2.PredictResponse,
        classification_pb2.ClassificationRequest,
        classification_pb2.ClassificationResponse,
        get_model_metadata_pb2.GetModelMetadataResponse,
        get_model_metadata_pb2.SignatureDefMap,
        get_model_status_pb2.GetModelStatusResponse,
        model_management_pb2.ReloadConfigRequest,
    ]


def fill(message, depth=3):
    """Set every field of a message, to the given depth, to a value that is not its default."""
    for index, field in enumerate(message.DESCRIPTOR.fields):
        value = sample(field, index)
        if field.message_type and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name["value"]
            if not entry.message_type:
                getattr(message, field.name)["key"] = sample(entry, index)
            elif depth:
                fill(getattr(message, field.name)["key"], depth - 1)
        elif field.message_type:
            if depth:
                fill(
                    getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), depth - 1
                )
        elif field.is_repeated:
            getattr(message, field.name).extend([value, value])
        else:
            setattr(message, field.name, value)
    return message


def sample(field, index):
    return {
        field.CPPTYPE_STRING: b"bytes" if field.type == field.TYPE_BYTES else "text",
        field.CPPTYPE_BOOL: True,
        field.CPPTYPE_FLOAT: 0.5,
        field.CPPTYPE_DOUBLE: 0.25,
        field.CPPTYPE_ENUM: field.enum_type.values[-1].number if field.enum_type else 0,
    }.get(field.cpp_type, index + 1)


def test_the_committed_descriptors_are_those_of_the_wheel():
    from serving import wire_protos

    assert wire_protos.DESCRIPTOR_FILE == wire.DESCRIPTOR_FILE
    assert wire_protos.descriptor_set(wire_protos.service_files()) == wire.DESCRIPTOR_FILE.read_bytes()


@pytest.mark.slow
def test_the_generator_writes_the_file_that_it_is_told(tmp_path):
    output = tmp_path / "copy.binpb"
    command = [sys.executable, "-m", "serving.wire_protos", f"--output={output}"]
    subprocess.run(command, check=True, capture_output=True)
    assert output.read_bytes() == wire.DESCRIPTOR_FILE.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["copy.binpb"]


@pytest.mark.parametrize("theirs", wheel_classes(), ids=lambda cls: cls.DESCRIPTOR.name)
def test_messages_round_trip_against_the_wheel(theirs):
    ours = wire.message_class(theirs.DESCRIPTOR.full_name)
    assert ours is not theirs and ours is wire.message_class(theirs.DESCRIPTOR.full_name)
    written = fill(ours())
    read = theirs.FromString(written.SerializeToString())
    assert not len(unknown_fields.UnknownFieldSet(read))
    assert read.SerializeToString(deterministic=True) == fill(theirs()).SerializeToString(deterministic=True)
    assert ours.FromString(read.SerializeToString()) == written


def test_any_is_packed_and_unpacked_across_pools():
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    signatures.signature_def["serving_default"].inputs["x"].dtype = 4
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(signatures)
    ours = wire.message_class("tensorflow.serving.GetModelMetadataResponse").FromString(response.SerializeToString())
    unpacked = wire.message_class("tensorflow.serving.SignatureDefMap")()
    assert ours.metadata["signature_def"].Unpack(unpacked)
    assert unpacked.signature_def["serving_default"].inputs["x"].dtype == 4


@pytest.mark.parametrize(
    "order",
    [
        ["keras_mobilenet.wire", "tensorflow_serving.apis.predict_pb2"],
        ["tensorflow_serving.apis.predict_pb2", "keras_mobilenet.wire"],
    ],
)
@pytest.mark.slow
def test_lives_in_one_process_with_the_wheel_in_either_order(order):
    program = f"""
import {order[0]}, {order[1]}
from keras_mobilenet import wire
from tensorflow_serving.apis import predict_pb2
assert wire.message_class("tensorflow.serving.PredictRequest") is not predict_pb2.PredictRequest
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_an_unknown_message_is_a_key_error():
    with pytest.raises(KeyError, match=r"tensorflow\.serving\.Nothing"):
        wire.message_class("tensorflow.serving.Nothing")
