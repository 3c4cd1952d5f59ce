"""Holds a request's inputs and output filter against a signature."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import status, tensors


def read_inputs(
    signature: meta_graph_pb2.SignatureDef, protos: Mapping[str, tensor_pb2.TensorProto]
) -> dict[str, np.ndarray]:
    """Reads a request's tensors and checks them against the signature.

    Args:
        signature: The signature to run.
        protos: The request's inputs by name.

    Returns:
        Every input of the signature; the signature's defaults stand in for those not sent.

    Raises:
        ServingError: INVALID_ARGUMENT, naming what is expected and what was given.
    """
    check_names(signature, protos)
    sent = [(name, proto, signature.inputs[name]) for name, proto in protos.items()]  # Each look-up makes an object.
    for name, proto, info in sent:
        if proto.dtype != info.dtype:
            raise _wrong_dtype(signature, name, tensors.type_name(proto.dtype))
    inputs = {name: tensors.to_numpy(proto, name) for name, proto, _ in sent}
    for name, _, info in sent:
        _check_shape(info, name, inputs[name])
    return _with_defaults(signature, inputs)


def check_inputs(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Checks arrays against the signature; see `read_inputs`."""
    check_names(signature, inputs)
    for name, array in inputs.items():
        info = signature.inputs[name]
        if tensors.numpy_dtype(info.dtype) != array.dtype:
            raise _wrong_dtype(signature, name, array.dtype.name)
        _check_shape(info, name, array)
    return _with_defaults(signature, dict(inputs))


def check_names(signature: meta_graph_pb2.SignatureDef, sent: Iterable[str]) -> None:
    """Refuses a wrong set of inputs, saying which were sent needlessly and which are missing."""
    sent_names, known = set(sent), set(signature.inputs)
    if sent_names == known:
        return
    extra, missing = sorted(sent_names - known), sorted(known - sent_names - set(signature.defaults))
    if not extra and not missing:
        return
    sets = f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
    if len(sent_names) == len(known):
        raise status.invalid_argument(
            f"input tensor alias not found in signature: {extra[0]}. Inputs expected to be in the set "
            f"{{{','.join(sorted(known))}}}. {sets}"
        )
    raise status.invalid_argument(
        f"input size does not match signature: {len(sent_names)}!={len(known)} len({{{','.join(sorted(sent_names))}}}) "
        f"!= len({{{','.join(sorted(known))}}}). {sets}"
    )


def wanted_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """Returns the names of the outputs to compute: those of the filter, or all.

    Raises:
        ServingError: INVALID_ARGUMENT for an unknown or repeated name.
    """
    known = sorted(signature.outputs)
    seen: set[str] = set()
    for name in output_filter:
        if name not in signature.outputs:
            raise status.invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{','.join(known)}}}."
            )
        if name in seen:
            raise status.invalid_argument(f"duplicate output tensor alias: {name}")
        seen.add(name)
    return list(output_filter) or known


def _check_shape(info: meta_graph_pb2.TensorInfo, name: str, array: np.ndarray) -> None:
    shape = info.tensor_shape
    if shape.unknown_rank:
        return
    expected = [dim.size for dim in shape.dim]
    if len(expected) != array.ndim or any(
        size not in (-1, given) for size, given in zip(expected, array.shape, strict=True)
    ):
        raise status.invalid_argument(
            f"Input {name} has the wrong shape: expected {tensors.shape_string(shape)}, got "
            f"{tensors.shape_string(array.shape)}; ? stands for any size"
        )


def _wrong_dtype(signature: meta_graph_pb2.SignatureDef, name: str, given: str) -> status.ServingError:
    expected = tensors.type_name(signature.inputs[name].dtype)
    index = sorted(signature.inputs).index(name)
    return status.invalid_argument(f"Expects arg[{index}] to be {expected} but {given} is provided (input {name})")


def _with_defaults(signature: meta_graph_pb2.SignatureDef, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, proto in signature.defaults.items():
        if name not in inputs:
            if proto.dtype == types_pb2.DT_INVALID:
                raise status.failed_precondition(f"The signature's default for input {name} has no value; send one")
            inputs[name] = tensors.to_numpy(proto, name)
    return inputs
