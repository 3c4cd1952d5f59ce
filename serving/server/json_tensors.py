"""TF Serving's JSON: request bodies to arrays, and arrays to response bodies."""

import base64
import binascii
import enum
import itertools
import json
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import status, tensors

_BYTES_SUFFIX = "_bytes"
_SHOWN_CHARACTERS = 200
_JSON_TYPES = {dict: "Object", list: "Array", str: "String", bool: "Bool", type(None): "Null"}


class Format(enum.Enum):
    """The two ways to write a Predict request; the answer comes in the same way."""

    ROW = "instances"
    COLUMN = "inputs"


def parse(body: bytes) -> dict[str, Any]:
    """Parses a request body.

    Args:
        body: UTF-8 JSON, in which NaN and Infinity are allowed.

    Returns:
        The top-level object.

    Raises:
        ServingError: INVALID_ARGUMENT where it is not JSON or not an object.
    """
    if not body:
        raise status.invalid_argument("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise status.invalid_argument(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (ValueError, RecursionError) as error:
        raise status.invalid_argument(f"JSON Parse error: Invalid value: {error}") from error
    if not isinstance(document, dict):
        raise status.invalid_argument(f"JSON Value: {_show(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """Returns the signature that a request names, '' for the default."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise status.invalid_argument(
            f"JSON Value: {_show(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def request_format(document: Mapping[str, Any]) -> Format:
    """Tells row form from column form; both at once, neither, and an empty row form are errors."""
    row, column = Format.ROW.value in document, Format.COLUMN.value in document
    if row and column:
        raise status.invalid_argument(
            f"JSON Value: {_show(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            f"keys to exist "
        )
    if not row and not column:
        raise status.invalid_argument("Missing 'inputs' or 'instances' key")
    if row:
        instances = document[Format.ROW.value]
        if not isinstance(instances, list):
            raise status.invalid_argument(f"JSON Value: {_show(document)} Excepting 'instances' to be an list/array")
        if not instances:
            raise status.invalid_argument(f"JSON Value: {_show(document)} No values in 'instances' array")
    return Format.ROW if row else Format.COLUMN


def read_inputs(
    document: Mapping[str, Any], form: Format, signature: meta_graph_pb2.SignatureDef
) -> dict[str, np.ndarray]:
    """Reads a request's tensors.

    Args:
        document: The request.
        form: Its form.
        signature: Tells names and dtypes.

    Returns:
        The arrays by input name; a dtype that JSON cannot hold is UNIMPLEMENTED.
    """
    if not signature.inputs:
        raise status.invalid_argument("Failed to get input map for signature: it has no inputs")
    value = document[form.value]
    return _read_rows(value, signature) if form is Format.ROW else _read_columns(value, signature)


def write_outputs(outputs: Mapping[str, np.ndarray], form: Format, signature: meta_graph_pb2.SignatureDef) -> str:
    """Writes a Predict answer: `predictions` in row form, `outputs` in column form.

    Args:
        outputs: The arrays by output name.
        form: The request's form.
        signature: Tells the dtypes.

    Returns:
        The body. An object with names stands only where there is more than one tensor.
    """
    if not outputs:
        raise status.invalid_argument("Cannot convert empty tensor map to JSON")
    if form is Format.ROW:
        _check_batch(outputs)
    columns = {name: _to_lists(name, array, signature.outputs[name].dtype) for name, array in outputs.items()}
    if form is Format.COLUMN:
        return json.dumps({"outputs": next(iter(columns.values())) if len(columns) == 1 else columns})
    if len(columns) == 1:
        return json.dumps({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"predictions": rows})


def decimal(value: float) -> float:
    """Returns the double whose shortest text is the float32's shortest text, so that 0.2 stays 0.2 in JSON."""
    return float(str(np.float32(value)))


def is_base64(value: Any) -> bool:
    """Says whether a value is `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Any) -> bytes:
    """Decodes `{"b64": "..."}`; standard alphabet, padding optional."""
    if not is_base64(value):
        raise status.invalid_argument(f"JSON Value: {_show(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise status.invalid_argument(
            f"Unable to base64 decode: {error}; the standard alphabet (+ and /) is expected, not the web-safe one"
        ) from error


def encode_text(value: str) -> bytes:
    """Encodes a JSON string; a lone surrogate is an error."""
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise status.invalid_argument(f"JSON Value: {_show(value)} is not valid Unicode: {error}") from error


def json_type(value: Any) -> str:
    """Names the JSON type of a value for an error message."""
    return _JSON_TYPES.get(type(value), "Number")


def _read_rows(instances: list[Any], signature: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    named = isinstance(instances[0], dict) and not is_base64(instances[0])
    if not named:
        if len(signature.inputs) > 1:
            raise status.invalid_argument(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                f"tensorinfo_map; name the inputs {{{','.join(sorted(signature.inputs))}}} in each instance"
            )
        for index, instance in enumerate(instances):
            if isinstance(instance, dict) and not is_base64(instance):
                raise status.invalid_argument(f"Expecting value/list but got object at item {index} of input list")
        name = next(iter(signature.inputs))
        return {name: _to_array(instances, name, signature.inputs[name].dtype, rows=True)}
    for index, instance in enumerate(instances):
        _check_instance(instance, index, signature)
    names = instances[0].keys()
    return {
        name: _to_array([instance[name] for instance in instances], name, signature.inputs[name].dtype, rows=True)
        for name in names
    }


def _check_instance(instance: Any, index: int, signature: meta_graph_pb2.SignatureDef) -> None:
    if not isinstance(instance, dict) or is_base64(instance):
        raise status.invalid_argument(f"Expecting object but got list at item {index} of input list")
    known = set(signature.inputs)
    for name in instance:
        if name not in known:
            raise status.invalid_argument(
                f"Failed to process element: {index} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: JSON "
                f"object: does not have named input: {name}"
            )
    if set(instance) != known - (set(signature.defaults) - set(instance)):
        raise status.invalid_argument(
            f"Failed to process element: {index} of 'instances' list. JSON object: {_show(instance)} must only have "
            f"keys: {','.join(sorted(known))}"
        )


def _read_columns(value: Any, signature: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        if len(signature.inputs) > 1:
            raise status.invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                f"tensorinfo_map; name the inputs {{{','.join(sorted(signature.inputs))}}}"
            )
        name = next(iter(signature.inputs))
        return {name: _to_array(value, name, signature.inputs[name].dtype)}
    for name in signature.inputs:
        if name not in value and name not in signature.defaults:
            raise status.invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    for name in value:
        if name not in signature.inputs:
            raise status.invalid_argument(
                f"JSON object: does not have named input: {name}; the signature has "
                f"{{{','.join(sorted(signature.inputs))}}}"
            )
    return {name: _to_array(item, name, signature.inputs[name].dtype) for name, item in value.items()}


def _to_array(value: Any, name: str, dtype: int, rows: bool = False) -> np.ndarray:
    numpy_dtype = tensors.numpy_dtype(dtype)
    if numpy_dtype is None or np.issubdtype(numpy_dtype, np.complexfloating):
        raise status.ServingError(
            status.grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_show(value)} to type: {tensors.type_name(dtype)} (input {name})",
        )
    shape, flat = _flatten(value, name, rows)
    return _convert(flat, dtype, numpy_dtype).reshape(shape)


def _flatten(value: Any, name: str, rows: bool) -> tuple[list[int], list[Any]]:
    shape: list[int] = []
    level: list[Any] = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        for index, item in enumerate(level):
            if not isinstance(item, list) or len(item) != size:
                raise _ragged(item, index, size, len(shape), name, rows)
        shape.append(size)
        level = list(itertools.chain.from_iterable(level))
    for item in level:
        if type(item) is list:
            raise status.invalid_argument(
                f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)} (input {name}); all "
                f"values of a tensor must be nested equally deep"
            )
    return shape, level


def _ragged(item: Any, index: int, size: int, depth: int, name: str, rows: bool) -> status.ServingError:
    if not isinstance(item, list):
        return status.invalid_argument(
            f"JSON Value: {_show(item)} found at incorrect level: {depth + 1} in the JSON DOM (input {name}); all "
            f"values of a tensor must be nested equally deep"
        )
    if rows and depth == 1:
        return status.invalid_argument(
            f"Failed to process element: {index} of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: "
            f"{size} but got: {len(item)} (input {name})"
        )
    return status.invalid_argument(
        f"Encountered list at unexpected size: {len(item)} at level: {depth} expected size: {size} (input {name})"
    )


def _convert(flat: list[Any], dtype: int, numpy_dtype: np.dtype) -> np.ndarray:
    kinds = set(map(type, flat))
    if dtype == types_pb2.DT_STRING:
        array = np.empty(len(flat), object)
        array[:] = [_string(item) for item in flat]
        return array
    if dtype == types_pb2.DT_BOOL:
        _require_types(flat, kinds, {bool}, dtype)
        return np.array(flat, bool)
    if np.issubdtype(numpy_dtype, np.integer):
        _require_types(flat, kinds, {int}, dtype)
        return _integers(flat, dtype, numpy_dtype)
    _require_types(flat, kinds, {int, float}, dtype)
    return _decimals(flat, kinds, dtype, numpy_dtype)


def _string(item: Any) -> bytes:
    if isinstance(item, str):
        return encode_text(item)
    if isinstance(item, dict):
        return decode_base64(item)
    raise _type_error(item, types_pb2.DT_STRING)


def _require_types(flat: list[Any], kinds: set[type], allowed: set[type], dtype: int) -> None:
    if not kinds <= allowed:
        raise _type_error(next(item for item in flat if type(item) not in allowed), dtype)


def _integers(flat: list[int], dtype: int, numpy_dtype: np.dtype) -> np.ndarray:
    limits = np.iinfo(numpy_dtype)
    if flat and not (limits.min <= min(flat) and max(flat) <= limits.max):
        bad = next(item for item in flat if not limits.min <= item <= limits.max)
        raise status.invalid_argument(
            f"JSON Value: {_show(bad)} Type: Number is not of expected type: {tensors.type_name(dtype)}, which goes "
            f"from {limits.min} to {limits.max}"
        )
    return np.array(flat, numpy_dtype)


def _decimals(flat: list[float], kinds: set[type], dtype: int, numpy_dtype: np.dtype) -> np.ndarray:
    limits = ml_dtypes.finfo(numpy_dtype)
    largest, exact = float(limits.max), 2 ** (limits.nmant + 1)
    if int in kinds:
        # As TF Serving: float and double refuse integers that they may not hold exactly.
        bound = exact - 1 if dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE) else largest
        lossy = next((item for item in flat if isinstance(item, int) and abs(item) > bound), None)
        if lossy is not None:
            raise _lossy_error(lossy, dtype)
    values = np.array(flat, np.float64)
    outside = np.isfinite(values) & (np.abs(values) > largest)
    if outside.any():
        raise _lossy_error(flat[int(np.argmax(outside))], dtype)
    return values.astype(numpy_dtype)


def _lossy_error(item: float, dtype: int) -> status.ServingError:
    return status.invalid_argument(
        f"Cannot convert JSON value: {_show(item)} to {tensors.type_name(dtype)} without loss of precision."
    )


def _type_error(item: Any, dtype: int) -> status.ServingError:
    return status.invalid_argument(
        f"JSON Value: {_show(item)} Type: {json_type(item)} is not of expected type: {tensors.type_name(dtype)}"
    )


def _check_batch(outputs: Mapping[str, np.ndarray]) -> None:
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise status.invalid_argument(f"Tensor name: {name} has no shape information ")
        if array.shape[0] < 1:
            raise status.invalid_argument(f"Tensor name: {name} has invalid batch size: {array.shape[0]}")
        if size not in (None, array.shape[0]):
            raise status.invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {size}"
            )
        size = array.shape[0]


def _to_lists(name: str, array: np.ndarray, dtype: int) -> Any:
    if dtype == types_pb2.DT_STRING:
        as_bytes = name.endswith(_BYTES_SUFFIX)
        texts = np.empty(array.shape, object)
        flat = [_write_string(item, as_bytes) for item in np.ravel(array).tolist()]
        np.ravel(texts)[:] = flat
        return texts.tolist() if texts.ndim else flat[0]
    if np.issubdtype(array.dtype, np.integer) or dtype in (types_pb2.DT_BOOL, types_pb2.DT_DOUBLE):
        return array.tolist()
    if np.issubdtype(array.dtype, np.complexfloating):
        raise status.invalid_argument(
            f"Failed to write JSON value for tensor type: {tensors.type_name(dtype)} (output {name})"
        )
    # The shortest text of a float32, read as a double, prints as that same text.
    return np.asarray(array, np.float32).astype("U32").astype(np.float64).tolist()


def _write_string(item: bytes | str, as_bytes: bool) -> Any:
    raw = item if isinstance(item, bytes) else item.encode()
    return {"b64": base64.b64encode(raw).decode()} if as_bytes else raw.decode("utf-8", "replace")


def _show(value: Any) -> str:
    text = ""
    for chunk in json.JSONEncoder().iterencode(value):
        text += chunk
        if len(text) > _SHOWN_CHARACTERS:
            return text[:_SHOWN_CHARACTERS] + "..."
    return text
