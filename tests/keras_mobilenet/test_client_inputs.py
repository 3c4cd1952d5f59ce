import ml_dtypes
import numpy as np
import pytest

from keras_mobilenet.client import Signature, TensorSpec
from keras_mobilenet.client.inputs import bind


def fit(value, dtype, shape=None):
    return bind(value, Signature({"x": TensorSpec(dtype, shape)}, {}))["x"]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2], "float32", np.array([1, 2], np.float32)),
        ([1, 2.5], "float16", np.array([1, 2.5], np.float16)),
        (np.array([1.5]), "float32", np.array([1.5], np.float32)),
        (np.array([1, 2], np.uint8), "bfloat16", np.array([1, 2], ml_dtypes.bfloat16)),
        (np.array([1], ml_dtypes.bfloat16), "float32", np.array([1], np.float32)),
        (np.array([255]), "uint8", np.array([255], np.uint8)),
        (np.array([7]), "int4", np.array([7], ml_dtypes.int4)),
        ([-128, 127], "qint8", np.array([-128, 127], np.int8)),
        ([], "uint8", np.array([], np.uint8)),
        (2**63, "uint64", np.array(2**63, np.uint64)),
        ([True], "bool", np.array([True])),
        ([1.5], "complex64", np.array([1.5], np.complex64)),
        (np.array([1], ">i4"), "int32", np.array([1], np.int32)),
    ],
    ids=str,
)
def test_numbers_keep_their_meaning(value, dtype, expected):
    array = fit(value, dtype)
    assert array.dtype == expected.dtype
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        ([1.0], "uint8", r"float64 was given; convert it with array\.astype\('uint8'\)"),
        ([256], "uint8", "from 256 to 256, and uint8 from 0 to 255"),
        ([-1], "uint8", "from -1 to -1"),
        ([8], "int4", "int4 from -8 to 7"),
        ([200], "qint8", "qint8 from -128 to 127"),
        ([2**63], "int64", "int64"),
        ([2**70], "float32", "object was given"),
        ([1], "bool", "int64 was given"),
        ([True], "float32", "bool was given"),
        ([1j], "float32", "complex128 was given"),
        (["1"], "float32", "<U1 was given"),
        ([[1], [1, 2]], "float32", "differ in shape"),
        ([1], "string", "str or bytes, not int"),
        ([1], "variant", "no NumPy form"),
    ],
)
def test_numbers_that_would_change_are_refused(value, dtype, text):
    with pytest.raises(ValueError, match=text):
        fit(value, dtype)


def test_strings():
    assert fit(["a", b"b"], "string").tolist() == ["a", b"b"]
    assert fit(np.array([b"a"]), "string").tolist() == [b"a"]
    assert fit("a", "string", ()).shape == ()


@pytest.mark.parametrize(
    ("shape", "given", "text"),
    [
        ((None, 2), (3,), r"not the shape \[3\]"),
        ((None, 3), (3,), r"add the batch axis with array\[np\.newaxis\]"),
        ((None, 2), (1, 3), r"float32 \[\?, 2\], not the shape \[1, 3\]"),
        ((), (1,), r"not the shape \[1\]"),
    ],
)
def test_shapes_that_do_not_fit(shape, given, text):
    with pytest.raises(ValueError, match=text):
        fit(np.zeros(given, np.float32), "float32", shape)


def test_inputs_with_a_default_may_be_left_out():
    spec = TensorSpec("float32", None)
    signature = Signature({"x": spec, "scale": spec}, {}, optional=frozenset({"scale"}))
    assert list(bind([1.0], signature)) == ["x"]
    assert list(bind({"x": [1.0], "scale": 2.0}, signature)) == ["x", "scale"]
    with pytest.raises(ValueError, match=r"missing: x\).*scale: float32 of any shape \(optional\)"):
        bind({"scale": 1.0}, signature)


def test_a_signature_without_inputs():
    assert bind({}, Signature({}, {})) == {}
    with pytest.raises(ValueError, match="takes 0 inputs"):
        bind([1], Signature({}, {}))
