import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from keras_mobilenet import wire
from keras_mobilenet.wire import dtypes

EXTENSIONS = [ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, ml_dtypes.uint4]
NUMPY = [
    np.float16,
    np.float32,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
]
NUMERIC = [np.dtype(kind) for kind in [*NUMPY, np.complex64, np.complex128, np.bool_, *EXTENSIONS]]
SHAPES = [(), (0,), (3,), (2, 0, 4), (2, 3)]


def values(dtype, shape):
    numbers = np.arange(1, 1 + int(np.prod(shape))).reshape(shape) % 7
    if dtype.kind == "c":
        numbers = numbers - 1j * numbers[::-1] if shape else numbers + 2j
    return np.asarray(numbers).astype(dtype)


def same(given, expected):
    assert given.dtype == expected.dtype
    assert given.shape == expected.shape
    assert given.tolist() == expected.tolist()


def as_theirs(proto):
    return tensor_pb2.TensorProto.FromString(proto.SerializeToString())


def as_ours(proto):
    return wire.message_class("tensorflow.TensorProto").FromString(proto.SerializeToString())


def test_type_numbers_are_tensorflows():
    plain = {number for number in types_pb2.DataType.values() if 0 < number < 100}
    assert {number: tf.dtypes.as_dtype(number).name for number in plain} == dtypes.NAMES


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_numbers_out_are_read_by_tensorflow(dtype, shape):
    array = values(dtype, shape)
    proto = wire.to_tensor_proto(array)
    assert len(proto.tensor_content) == array.nbytes
    same(tf.make_ndarray(as_theirs(proto)), array)
    same(tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy(), array)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_numbers_in_from_typed_fields_and_content(dtype, shape):
    array = values(dtype, shape)
    # make_tensor_proto itself chooses: content for most arrays of several values, typed fields for the others.
    same(wire.to_array(as_ours(tf.make_tensor_proto(array))), array)
    same(wire.to_array(wire.to_tensor_proto(array)), array)


# What TF Serving answers with: each value in a typed field.
@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_typed_fields_of_several_values(dtype):
    array = values(dtype, (2, 3))
    proto = tensor_pb2.TensorProto(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum)
    proto.tensor_shape.dim.add(size=2)
    proto.tensor_shape.dim.add(size=3)
    for value in array.ravel():
        one = tf.make_tensor_proto(value.item() if dtype.kind == "b" else value, dtype=dtype, shape=())
        one.ClearField("dtype")
        one.ClearField("tensor_shape")
        proto.MergeFrom(one) if not one.float8_val else setattr(proto, "float8_val", proto.float8_val + one.float8_val)
    assert not proto.tensor_content
    same(tf.make_ndarray(proto), array)
    same(wire.to_array(as_ours(proto)), array)


@pytest.mark.parametrize("name", ["qint8", "quint8", "qint16", "quint16", "qint32"])
def test_quantized_integers_are_plain_integers(name):
    array = np.array([1, 2, 100], name[1:])
    proto = wire.to_tensor_proto(array, name)
    assert tf.make_ndarray(as_theirs(proto)).view(name[1:]).tolist() == [1, 2, 100]
    same(wire.to_array(proto), array)


@pytest.mark.parametrize(
    "array",
    [
        np.array("one"),
        np.array(["a", "später"]),
        np.array([[b"\x00\x01", b"b\x00"]], dtype=object),
        np.array([b"ab", b"c"]),
    ],
)
def test_strings(array):
    proto = wire.to_tensor_proto(array)
    theirs = tf.make_tensor_proto(array.astype(object), dtype=tf.string, shape=array.shape)
    assert as_theirs(proto) == theirs
    expected = tf.make_ndarray(theirs)
    same(wire.to_array(as_ours(theirs)), expected.astype(object))


def test_an_empty_string_tensor():
    proto = wire.to_tensor_proto(np.zeros((0, 2), dtype=object))
    same(wire.to_array(proto), tf.make_ndarray(as_theirs(proto)))


@pytest.mark.parametrize("held", [[], [5.0], [1.0, 2.0]])
def test_a_short_list_goes_on_with_its_last_value(held):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=held)
    proto.tensor_shape.dim.add(size=4)
    same(wire.to_array(as_ours(proto)), tf.make_ndarray(proto))


def test_big_endian_and_strided_arrays():
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    same(tf.make_ndarray(as_theirs(wire.to_tensor_proto(array))), array.astype(np.float32))


def test_arrays_handed_out_are_writable():
    wire.to_array(wire.to_tensor_proto(np.zeros(3, np.float32)))[0] = 1


def test_bfloat16_without_ml_dtypes():
    program = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np
from keras_mobilenet import wire
proto = wire.message_class("tensorflow.TensorProto")(dtype=14, tensor_content=bytes([0xC0, 0x3F, 0x00, 0xC0]))
proto.tensor_shape.dim.add(size=2)
array = wire.to_array(proto)
assert array.dtype == np.float32 and array.tolist() == [1.5, -2.0], array
typed = wire.message_class("tensorflow.TensorProto")(dtype=14, half_val=[0x3FC0])
assert wire.to_array(typed) == 1.5
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("array", "dtype", "text"),
    [
        (np.zeros(2, "datetime64[s]"), None, "datetime64"),
        (np.array([1, None], dtype=object), None, "takes bytes and str, not int"),
        (np.zeros(2, np.float32), "int8", r"float32 cannot be sent as int8"),
    ],
)
def test_arrays_that_cannot_be_sent(array, dtype, text):
    with pytest.raises(TypeError, match=text):
        wire.to_tensor_proto(array, dtype)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"dtype": 20}, TypeError, "resource"),
        ({"dtype": 99}, TypeError, "dtype 99"),
        ({"dtype": 1, "float_val": [1, 2]}, ValueError, "2 values do not fit the shape"),
        ({"dtype": 1, "tensor_content": b"123"}, ValueError, "3 bytes are not a whole number of float32"),
        ({"dtype": 1, "tensor_shape": {"unknown_rank": True}}, ValueError, "unknown shape"),
    ],
)
def test_protos_that_cannot_be_read(fields, error, text):
    with pytest.raises(error, match=text):
        wire.to_array(wire.message_class("tensorflow.TensorProto")(**fields))
