"""Magnitude pruning of a Keras 3 model."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_mobilenet import graph
from keras_mobilenet.optimization.allocation import ALLOCATIONS, sparsities
from keras_mobilenet.optimization.pruning_constraint import PruningConstraint
from keras_mobilenet.optimization.pruning_schedules import Schedule


@dataclass(frozen=True)
class Kernel:
    """A weight that can be pruned.

    Attributes:
        kinds: Layers that have it; so do their subclasses.
        weight: Attribute of the layer that holds it.
        constraint: Argument of the layer that constrains it.
        depthwise: Whether it filters each channel by itself.
    """

    kinds: tuple[type[layers.Layer], ...]
    weight: str
    constraint: str
    depthwise: bool = False


KERNELS = (
    Kernel((layers.Conv1D, layers.Conv2D, layers.Conv3D), "kernel", "kernel_constraint"),
    Kernel(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose, layers.Dense),
        "kernel",
        "kernel_constraint",
    ),
    Kernel((layers.SeparableConv1D, layers.SeparableConv2D), "pointwise_kernel", "pointwise_constraint"),
    Kernel((layers.SeparableConv1D, layers.SeparableConv2D), "depthwise_kernel", "depthwise_constraint", True),
    Kernel((layers.DepthwiseConv1D, layers.DepthwiseConv2D), "kernel", "depthwise_constraint", True),
)


def prune(
    model: keras.Model,
    schedule: Any,
    *,
    block_size: tuple[int, int] = (1, 1),
    block_pooling: str = "AVG",
    sparsity_m_by_n: tuple[int, int] | None = None,
    allocation: str = "uniform",
    depthwise: bool = False,
    layers: Collection[str] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the model that prunes itself while it is trained: the smallest weights of each kernel become zero.

    The new model is made of the same Keras layers; a constraint on their kernels holds the masks. Compile it and train
    it by any means that a Keras optimizer has part in. It needs no callback, and there is nothing to strip: kernels
    hold exact zeros at the end of every step, `km.quantize_aware` keeps them, and exports leave the masks out.

    Args:
        model: Functional or Sequential model; models nested in it are laid out flat. It is left as it is. Of a model
            that was pruned before, what is zero stays zero and the new schedule goes on from there.
        schedule: `km.PolynomialDecay`, `km.ConstantSparsity`, or another of tfmot's PruningSchedules: at which training
            steps masks change, and to which sparsity. Masks due at steps 0 and 1 are made at once.
        block_size: (rows, columns) of blocks that are pruned as one, in the kernel as a matrix (all other dimensions x
            output channels). Blocks at its edges may be cut.
        block_pooling: What of the magnitudes in a block counts: "AVG" or "MAX".
        sparsity_m_by_n: (m, n), such as (2, 4): m of n weights in a row along the input channels become zero. The mask
            is made once, when the schedule begins; its sparsity is m / n, whatever the schedule says. Not with blocks.
        allocation: How the schedule's sparsity is shared out. "uniform": every kernel has it, as in tfmot. "lamp": all
            of them together have it, and large kernels, which have weights to spare, more of it than small ones; the
            shares are taken from the weights of `model`. Not with `sparsity_m_by_n`.
        depthwise: Whether depthwise kernels are pruned too. They hold 1 % of a MobileNet's weights.
        layers: Names of the layers to prune, depthwise ones only together with `depthwise`; None for all.
        name: Name of the new model; by default that of `model`.

    Returns:
        A functional model with the names of `model` and a copy of its weights, not compiled.

    Raises:
        TypeError: `schedule` is not a schedule.
        ValueError: An argument is out of range or names no layer that can be pruned, a block or pattern does not fit a
            kernel, there is nothing to prune, or `model` has no graph to read.

    Example:
    ```python
    pruned = km.prune(model, km.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000))
    pruned.compile(keras.optimizers.SGD(1e-2, momentum=0.9), "sparse_categorical_crossentropy")
    pruned.fit(train_images, train_labels, epochs=2)
    print(km.sparsity(pruned))
    ```

    Source: arXiv:1710.01878 (the schedule), arXiv:2010.07611 ("lamp"); the masks are those of
        tensorflow-model-optimization 0.8.
    """
    schedule = Schedule.of(schedule)
    options = {"schedule": schedule.config} | _pattern(block_size, block_pooling, sparsity_m_by_n)
    _check_allocation(allocation, sparsity_m_by_n)
    flat = graph.copy(model)
    chosen = _chosen(flat, depthwise, layers)
    for layer, kernel in chosen:
        _check_fit(layer, getattr(layer, kernel.weight).shape, options)
    factors = _factors(chosen, schedule.final_sparsity, allocation)
    rebuilt: dict[str, keras.layers.Layer] = {}

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name not in rebuilt:
            config = layer.get_config()
            for (chosen_layer, kernel), factor in zip(chosen, factors, strict=True):
                if chosen_layer is layer:
                    own = options | {"sparsity_factor": factor}
                    config[kernel.constraint] = _constraint(layer, kernel, own)
            rebuilt[layer.name] = type(layer).from_config(config)
        return rebuilt[layer.name](*args, **kwargs)

    result = graph.rewrite(flat, call, name=name)
    for layer in flat.layers:
        _copy_weights(layer, result.get_layer(layer.name))
    for layer, kernel in chosen:
        new = result.get_layer(layer.name)
        getattr(new, kernel.constraint).start(getattr(new, kernel.weight))
    return result


def kernels(layer: Any) -> Iterator[Kernel]:
    """The weights of a layer that can be pruned."""
    return (kernel for kernel in KERNELS if isinstance(layer, kernel.kinds))


def _chosen(
    flat: keras.Model, depthwise: bool, names: Collection[str] | None
) -> list[tuple[keras.layers.Layer, Kernel]]:
    """The kernels to prune, each with its layer."""
    if isinstance(names, str):
        names = [names]
    able = [(layer, kernel) for layer in flat.layers for kernel in kernels(layer) if depthwise or not kernel.depthwise]
    wanted = {layer.name for layer, _ in able} if names is None else set(names)
    unknown = wanted - {layer.name for layer, _ in able}
    if unknown:
        raise ValueError(
            f"`layers` names {', '.join(sorted(unknown))}: `{flat.name}` can be pruned in "
            f"{', '.join(layer.name for layer, _ in able) or 'no layer'}"
            + ("." if depthwise else ", and with depthwise=True in depthwise convolutions.")
        )
    chosen = [(layer, kernel) for layer, kernel in able if layer.name in wanted]
    if not chosen:
        raise ValueError(
            f"`{flat.name}` has nothing to prune: pass a model with convolutions or dense layers, `layers` that name "
            "some, or depthwise=True where it has depthwise convolutions only."
        )
    if not any(layer.trainable for layer, _ in chosen):
        raise ValueError(
            f"Every layer of `{flat.name}` that would be pruned is frozen, and training would not prune it: set "
            "`model.trainable = True` first."
        )
    return chosen


def _factors(chosen: list[tuple[keras.layers.Layer, Kernel]], sparsity: float, allocation: str) -> list[float]:
    """What the schedule's sparsity is multiplied by for each kernel."""
    if not sparsity:
        return [1.0] * len(chosen)
    values = [keras.ops.convert_to_numpy(getattr(layer, kernel.weight)) for layer, kernel in chosen]
    return [share / sparsity for share in sparsities(values, sparsity, allocation)]


def _constraint(layer: keras.layers.Layer, kernel: Kernel, options: dict[str, Any]) -> PruningConstraint:
    before = getattr(layer, kernel.constraint)
    if isinstance(before, PruningConstraint):
        before = before.constraint
    shape = tuple(getattr(layer, kernel.weight).shape)
    return PruningConstraint(shape, constraint=before, name=f"{layer.name}_{kernel.weight}_pruning", **options)


def _copy_weights(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copies weights and masks; counts of steps start anew."""
    masks = {}
    for kernel in kernels(old):
        constraint = getattr(old, kernel.constraint)
        if isinstance(constraint, PruningConstraint):
            masks[kernel.constraint] = constraint.mask
    for weight, value in zip(_own_weights(new), _own_weights(old), strict=True):
        weight.assign(value)
    for name, mask in masks.items():
        getattr(new, name).mask.assign(mask)


def _own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    constraints = [getattr(layer, kernel.constraint) for kernel in kernels(layer)]
    masks = {id(w) for c in constraints if isinstance(c, PruningConstraint) for w in c.weights}
    return [weight for weight in layer.weights if id(weight) not in masks]


def _pattern(block_size: Any, block_pooling: str, m_by_n: Any) -> dict[str, Any]:
    """What is pruned as one, checked."""
    block = _whole_numbers("block_size", block_size, "(rows, columns), each 1 or more, such as (4, 1)")
    if min(block) < 1:
        raise ValueError(f"`block_size={block_size!r}` has no weights: pass (rows, columns), each 1 or more.")
    if block_pooling not in ("AVG", "MAX"):
        raise ValueError(f'`block_pooling={block_pooling!r}` is unknown: pass "AVG" or "MAX".')
    if m_by_n is None:
        return {"block_size": block, "block_pooling": block_pooling}
    m, n = _whole_numbers("sparsity_m_by_n", m_by_n, "(m, n), such as (2, 4)")
    if not 0 < m < n:
        raise ValueError(f"`sparsity_m_by_n={m_by_n!r}` is no pattern: pass (m, n) with 0 < m < n, such as (2, 4).")
    if block != (1, 1):
        raise ValueError(
            f"`block_size={block}` and `sparsity_m_by_n={m, n}` exclude each other: leave one of them out."
        )
    return {"sparsity_m_by_n": (m, n)}


def _check_allocation(allocation: str, m_by_n: tuple[int, int] | None) -> None:
    if allocation not in ALLOCATIONS:
        raise ValueError(f"`allocation={allocation!r}` is unknown: pass {' or '.join(map(repr, ALLOCATIONS))}.")
    if allocation != "uniform" and m_by_n is not None:
        raise ValueError(
            f"`sparsity_m_by_n={m_by_n}` prunes every kernel alike, and `allocation={allocation!r}` does not: leave "
            "one of them out."
        )


def _whole_numbers(name: str, value: Any, allowed: str) -> tuple[int, int]:
    if not isinstance(value, Sequence) or len(value) != 2 or any(type(number) is not int for number in value):
        raise ValueError(f"`{name}={value!r}` is not a pair of whole numbers: pass {allowed}.")
    return value[0], value[1]


def _check_fit(layer: keras.layers.Layer, shape: Sequence[int], options: dict[str, Any]) -> None:
    shape = tuple(shape)
    way_out = "leave the layer out with `layers=[...]`"
    if "sparsity_m_by_n" in options and len(shape) not in (2, 4):
        raise ValueError(
            f"`sparsity_m_by_n` is for kernels of 2 or 4 dimensions, but that of `{layer.name}` is {shape}: {way_out}."
        )
    rows, columns = options.get("block_size", (1, 1))
    size = 1
    for side in shape[:-1]:
        size *= side
    if rows > size or columns > shape[-1]:
        raise ValueError(
            f"`block_size={rows, columns}` does not fit `{layer.name}`, whose kernel {shape} is a matrix of {size} x "
            f"{shape[-1]}: use smaller blocks, or {way_out}."
        )
