"""What a server tells of a model: its signatures and the state of its versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_mobilenet.wire import dtypes


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        dtype: TensorFlow's name of the type: `uint8`, `string`, `float32`, ...
        shape: sizes, None for one that is free; None for a shape of any rank.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape can be sent."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            a is None or a == b for a, b in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """A signature of a SavedModel.

    Attributes:
        inputs: what it takes, by name.
        outputs: what it gives, by name.
        method_name: TF Serving's method, for instance `tensorflow/serving/predict`.
        optional: the inputs that have a default value.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ModelMetadata:
    """The signatures of one version of a model.

    Attributes:
        name: the model's.
        version: the version that answered; None where the server does not tell.
        signatures: by name.
    """

    name: str
    version: int | None
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version.

    Attributes:
        version: its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error_code: `OK`, or why it failed.
        error_message: the load error, or empty.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


class Classification(NamedTuple):
    """A class and how sure the model is of it."""

    label: str
    score: float


class Outputs(dict[str, np.ndarray]):
    """The output arrays by name, and the model that gave them.

    Attributes:
        model_name: the model.
        signature_name: the signature.
        version: the version that answered; None over REST, which does not tell.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], model_name: str, signature_name: str, version: int | None
    ) -> None:
        super().__init__(arrays)
        self.model_name = model_name
        self.signature_name = signature_name
        self.version = version


def parse_signatures(signature_map: Any) -> dict[str, Signature]:
    """Read a `tensorflow.serving.SignatureDefMap`."""
    return {
        name: Signature(
            inputs=_specs(entry.inputs),
            outputs=_specs(entry.outputs),
            method_name=entry.method_name,
            optional=frozenset(entry.defaults),
        )
        for name, entry in sorted(signature_map.signature_def.items())
    }


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(dtypes.name_of(info.dtype), _shape(info.tensor_shape))
        for name, info in sorted(tensors.items())
    }


def _shape(proto: Any) -> tuple[int | None, ...] | None:
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)


def parse_status(response: Any) -> list[VersionStatus]:
    """Read a `tensorflow.serving.GetModelStatusResponse`."""
    return [
        VersionStatus(
            version=entry.version,
            state=_enum_name(entry, "state"),
            error_code=_enum_name(entry.status, "error_code"),
            error_message=entry.status.error_message,
        )
        for entry in response.model_version_status
    ]


def _enum_name(message: Any, name: str) -> str:
    number = getattr(message, name)
    value = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(number)
    return value.name if value else str(number)
