"""What the ablations compare: variants of the networks, and which of them the papers say is better."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keras_mobilenet.mobilenet_v2 import Stage
from training.paper.networks import Network

SIZE = 48  # pixels; at 32 a stride of 32 leaves a single position, and the networks don't learn

# The first rows of V2's table with half of its strides, two blocks each: what learns in a few minutes from nothing.
# Shortcuts stand in the second block of a row.
SHORT_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 2, 2),
    Stage(6, 64, 2, 1),
    Stage(6, 96, 2, 1),
)

# Shortcuts between the wide ends: nothing expands, and the ends are twice as wide, at which the network costs what that
# with inverted residuals does (2 % more).
WIDE_STAGES = tuple(Stage(1, 2 * row.filters, row.repeats, row.stride) for row in SHORT_STAGES)


def _v1(alpha: float = 0.25, size: int = SIZE, **variant: object) -> Network:
    return Network("mobilenet_v1", alpha, size, tuple(variant.items()))


def _v2(stages: tuple[Stage, ...] = SHORT_STAGES, **variant: object) -> Network:
    return Network("mobilenet_v2", 0.35, SIZE, (("stages", stages), *variant.items()))


V1, V2 = _v1(), _v2()


@dataclass(frozen=True)
class Ablation:
    """A comparison.

    Attributes:
        title: Its heading.
        source: Where the papers have it.
        statement: What they say, in our words.
        contestants: Label -> network; the best first, in the papers' order.
    """

    title: str
    source: str
    statement: str
    contestants: Mapping[str, Network] = field(hash=False)


ABLATIONS = {
    "convolution": Ablation(
        "Full convolutions and depthwise separable ones",
        "arXiv:1704.04861, table 4",
        "full convolutions are better by 1.1 points, at 8.6 times the multiply-adds",
        {"full convolutions": _v1(convolution="standard"), "depthwise separable": V1},
    ),
    "depth": Ablation(
        "Thin and shallow",
        "arXiv:1704.04861, table 5",
        "the thinner network is better than the shallower one of the same cost, by 3.1 points",
        {"thin, alpha 0.375": _v1(0.375), "shallow, alpha 0.5": _v1(0.5, shallow=True)},
    ),
    "width": Ablation(
        "Width multiplier",
        "arXiv:1704.04861, table 6",
        "accuracy falls with alpha, slowly at first",
        {"alpha 0.5": _v1(0.5), "alpha 0.375": _v1(0.375), "alpha 0.25": V1},
    ),
    "resolution": Ablation(
        "Resolution",
        "arXiv:1704.04861, table 7",
        "accuracy falls with the size of the picture",
        {"96 px": _v1(size=96), "64 px": _v1(size=64), "48 px": V1},
    ),
    "bottleneck": Ablation(
        "Linear and non-linear bottlenecks",
        "arXiv:1801.04381, figure 6a",
        "a linear bottleneck is better than one with ReLU6",
        {"linear": V2, "ReLU6": _v2(bottleneck_activation="relu6")},
    ),
    "shortcut": Ablation(
        "Where the shortcut stands",
        "arXiv:1801.04381, figure 6b",
        "shortcuts between bottlenecks are better than between expansions, and those are better than none",
        {"between bottlenecks": V2, "between expansions": _v2(shortcut="expansion"), "none": _v2(shortcut=None)},
    ),
    "residual": Ablation(
        "Inverted residuals and residuals between wide layers, at equal multiply-adds",
        "arXiv:1801.04381, section 3.3",
        "the inverted design is slightly better, and needs less memory",
        {"inverted residual": V2, "residual between wide layers": _v2(stages=WIDE_STAGES)},
    ),
}


def ablation(name: str) -> Ablation:
    """The ablation of a name.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in ABLATIONS:
        raise ValueError(
            f"There is no ablation {name!r}; allowed are {', '.join(ABLATIONS)}, and all of them by `all`."
        )
    return ABLATIONS[name]
