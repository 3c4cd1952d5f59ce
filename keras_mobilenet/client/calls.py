"""The requests of TF Serving's protocol, before they are put in gRPC's or REST's form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_mobilenet.client.model_info import Signature


@dataclass(frozen=True)
class Model:
    """The model that a request is for: its newest version, or the one with a number or a label."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Predict:
    """Run a signature on arrays that fit it."""

    model: Model
    signature_name: str
    signature: Signature
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Classify:
    """Run a classification signature on examples, each a dict of features."""

    model: Model
    signature_name: str
    examples: Sequence[Mapping[str, list[Any]]]


@dataclass(frozen=True)
class GetMetadata:
    """Ask for the signatures."""

    model: Model


@dataclass(frozen=True)
class GetStatus:
    """Ask for the state of the versions."""

    model: Model


@dataclass(frozen=True)
class Reload:
    """Replace the server's configuration by a `tensorflow.serving.ModelServerConfig`."""

    config: Any


Call = Predict | Classify | GetMetadata | GetStatus | Reload
