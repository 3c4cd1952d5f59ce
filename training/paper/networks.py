"""The networks in the papers' tables that can be built here, and what they cost."""

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

import keras_mobilenet as km


def _from_keras(build: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    """One of keras.applications, which has no width multiplier."""

    def from_keras(shape: tuple[int, int, int], alpha: float, **variant: Any) -> keras.Model:
        del alpha
        return build(input_shape=shape, weights=None, **variant)

    return from_keras


def _detector(lite: bool) -> Callable[..., keras.Model]:
    """SSDLite, or SSD with regular convolutions in its heads."""

    def detector(shape: tuple[int, int, int], alpha: float, **variant: Any) -> keras.Model:
        return (km.SSDLite if lite else km.SSD)(alpha=alpha, image_size=shape[0], **variant)

    return detector


def _deeplab(shape: tuple[int | None, int | None, int], alpha: float, **variant: Any) -> keras.Model:
    return km.DeepLabV3(alpha=alpha, image_size=shape[0], **variant)


BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "mobilenet_v1": km.MobileNetV1,
    "mobilenet_v2": km.MobileNetV2,
    "ssdlite": _detector(lite=True),
    "ssd": _detector(lite=False),
    "deeplab_v3": _deeplab,
    "vgg16": _from_keras(keras.applications.VGG16),
    "nasnet_mobile": _from_keras(keras.applications.NASNetMobile),
}


OPEN = ("mobilenet_v1", "mobilenet_v2", "deeplab_v3")
"""Those that can be built once for all sizes."""


@dataclass(frozen=True)
class Network:
    """A network with a size; two of them are equal where they are the same network.

    Attributes:
        family: Key of `BUILDERS`.
        alpha: Width multiplier.
        size: Height and width of the input, in pixels.
        variant: Further arguments of the builder, as (name, value) pairs.
    """

    family: str
    alpha: float = 1.0
    size: int = 224
    variant: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """As in the names of the published files: `mobilenet_v1_0.25_128`."""
        return "_".join([self.family, f"{self.alpha:g}" if self.alpha % 1 else f"{self.alpha:.1f}", str(self.size)])

    @property
    def key(self) -> str:
        """The name with the variant; different for different networks, and fit for a file's name."""
        values = [
            f"{name}={value}" if isinstance(value, str | int | None) else f"{name}={_digest(value)}"
            for name, value in self.variant
        ]
        return "-".join([self.name, *values])

    def build(self, **options: Any) -> keras.Model:
        """Builds it with random weights."""
        return BUILDERS[self.family]((self.size, self.size, 3), alpha=self.alpha, **dict(self.variant), **options)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Cost:
    """What a network costs for one picture.

    Attributes:
        parameters: Weights that training changes.
        without_batch_norm: Those of kernels and biases alone, which is what V1's tables count.
        multiply_adds: Of convolutions and dense layers.
    """

    parameters: int
    without_batch_norm: int
    multiply_adds: int

    def less(self, part: "Cost") -> "Cost":
        """What is left without a part."""
        return Cost(
            self.parameters - part.parameters,
            self.without_batch_norm - part.without_batch_norm,
            self.multiply_adds - part.multiply_adds,
        )


@functools.cache
def cost(network: Network) -> Cost:
    """Builds a network and counts it."""
    shape = (network.size, network.size, 3)
    # With an open size the builder can't tell which expansions have equal shapes.
    if network.family in OPEN and ("shortcut", "expansion") not in network.variant:
        return _summed(km.cost.count(_of_any_size(network.family, network.alpha, network.variant), shape))
    keras.backend.clear_session()
    return _summed(km.cost.count(network.build()))


@functools.lru_cache(maxsize=2)  # the tables go through the sizes of one network after another
def _of_any_size(family: str, alpha: float, variant: tuple[tuple[str, Any], ...]) -> keras.Model:
    keras.backend.clear_session()
    return BUILDERS[family]((None, None, 3), alpha=alpha, **dict(variant))


def _summed(counted: km.cost.ModelCost) -> Cost:
    """The totals of a count."""
    norms = sum(row.parameters for row in counted.layers if row.kind == "BatchNormalization")
    return Cost(counted.parameters, counted.parameters - norms, counted.multiply_adds)


def agrees(ours: float, printed: str) -> bool:
    """Whether a figure gives the printed one when it is rounded or cut to its digits.

    Args:
        ours: The figure.
        printed: Digits as printed, in the same unit.

    Example: `agrees(149.6, "149")` and `agrees(149.6, "150")` are both true.
    """
    decimals = len(printed.partition(".")[2])
    scaled = ours * 10**decimals
    return round(float(printed) * 10**decimals) in (math.floor(scaled), math.ceil(scaled - 0.5), round(scaled))
