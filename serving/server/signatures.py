"""Holds a request's inputs and output filter against a signature."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import status, tensors


@dataclasses.dataclass(frozen=True)
class _Input:
    """What a signature says of an input: its DataType, and its shape with -1 for any size, None for any rank."""

    dtype: int
    shape: tuple[int, ...] | None


class Signature:
    """A signature that requests are held against, taken apart once: each look into a message makes objects.

    Args:
        definition: Names, dtypes and shapes of its inputs and outputs.
    """

    def __init__(self, definition: meta_graph_pb2.SignatureDef) -> None:
        self.definition = definition
        self.output_dtypes = {name: definition.outputs[name].dtype for name in sorted(definition.outputs)}
        self._inputs = {name: _Input(info.dtype, _sizes(info.tensor_shape)) for name, info in definition.inputs.items()}
        self._defaults = dict(definition.defaults)

    def read_inputs(self, protos: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, np.ndarray]:
        """Reads a request's tensors and checks them against the signature.

        Args:
            protos: The request's inputs by name.

        Returns:
            Every input of the signature; the signature's defaults stand in for those not sent.

        Raises:
            ServingError: INVALID_ARGUMENT, naming what is expected and what was given.
        """
        sent = dict(protos)
        self._check_names(sent)
        for name, proto in sent.items():
            if proto.dtype != self._inputs[name].dtype:
                raise self._wrong_dtype(name, tensors.type_name(proto.dtype))
        inputs = {name: tensors.to_numpy(proto, name) for name, proto in sent.items()}
        return self._complete(inputs)

    def check_inputs(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Checks arrays against the signature; see `read_inputs`."""
        self._check_names(inputs)
        for name, array in inputs.items():
            if tensors.numpy_dtype(self._inputs[name].dtype) != array.dtype:
                raise self._wrong_dtype(name, array.dtype.name)
        return self._complete(dict(inputs))

    def wanted_outputs(self, output_filter: Sequence[str]) -> list[str]:
        """Returns the names of the outputs to compute: those of the filter, or all.

        Raises:
            ServingError: INVALID_ARGUMENT for an unknown or repeated name.
        """
        seen: set[str] = set()
        for name in output_filter:
            if name not in self.output_dtypes:
                raise status.invalid_argument(
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{{{','.join(self.output_dtypes)}}}."
                )
            if name in seen:
                raise status.invalid_argument(f"duplicate output tensor alias: {name}")
            seen.add(name)
        return list(output_filter) or list(self.output_dtypes)

    def _check_names(self, sent: Mapping[str, object]) -> None:
        """Refuses a wrong set of inputs, saying which were sent needlessly and which are missing."""
        known = self._inputs
        if sent.keys() == known.keys():
            return
        extra, missing = sorted(sent.keys() - known.keys()), sorted(known.keys() - sent.keys() - self._defaults.keys())
        if not extra and not missing:
            return
        sets = f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        if len(sent) == len(known):
            raise status.invalid_argument(
                f"input tensor alias not found in signature: {extra[0]}. Inputs expected to be in the set "
                f"{{{','.join(sorted(known))}}}. {sets}"
            )
        raise status.invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{','.join(sorted(sent))}}}) "
            f"!= len({{{','.join(sorted(known))}}}). {sets}"
        )

    def _complete(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Checks the shapes, and puts defaults where nothing was sent."""
        for name, array in inputs.items():
            _check_shape(name, self._inputs[name].shape, array.shape)
        for name, proto in self._defaults.items():
            if name not in inputs:
                if proto.dtype == types_pb2.DT_INVALID:
                    raise status.failed_precondition(f"The signature's default for input {name} has no value; send one")
                inputs[name] = tensors.to_numpy(proto, name)
        return inputs

    def _wrong_dtype(self, name: str, given: str) -> status.ServingError:
        expected = tensors.type_name(self._inputs[name].dtype)
        index = sorted(self._inputs).index(name)
        return status.invalid_argument(f"Expects arg[{index}] to be {expected} but {given} is provided (input {name})")


def _sizes(shape: tensor_shape_pb2.TensorShapeProto) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)


def _check_shape(name: str, expected: tuple[int, ...] | None, given: tuple[int, ...]) -> None:
    if expected is not None and not _fits(given, expected):
        raise status.invalid_argument(
            f"Input {name} has the wrong shape: expected {tensors.shape_string(expected)}, got "
            f"{tensors.shape_string(given)}; ? stands for any size"
        )


@functools.lru_cache(1024)  # Each request asks, and most have the same shape.
def _fits(given: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(given) == len(expected) and all(size in (-1, sent) for size, sent in zip(expected, given, strict=True))
