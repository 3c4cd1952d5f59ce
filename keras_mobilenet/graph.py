"""Reading and rewriting the graph of a functional Keras model; what Keras keeps private of it is touched only here."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

Call = Callable[..., Any]  # call(layer, *args, **kwargs) -> outputs


def rewrite(model: keras.Model, call: Call, *, inputs: Any = None, name: str | None = None) -> keras.Model:
    """Builds a new functional model from the calls that an existing one makes.

    Args:
        model: Functional or Sequential model.
        call: Stands in for each layer's call, in the order of the graph: `call(layer, *args, **kwargs)` gets the layer
            of `model` and the new tensors, and returns the new output. It must call another layer than the one it gets,
            or the model's own layers would gain a second output.
        inputs: Keras tensors in the structure of the model's inputs; by default new inputs like the model's.
        name: Name of the new model; by default the old one's.

    Returns:
        The new model.

    Raises:
        ValueError: `model` has no graph to read (a subclassed model, or one that was never built).
    """
    model = functional(model)
    if inputs is None:
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
    return keras.Model(inputs, run(model, inputs, call), name=name or model.name)


def copy(model: keras.Model) -> keras.Model:
    """Copies a model with its weights; models nested in it as layers are laid out flat.

    Args:
        model: Functional or Sequential model.

    Returns:
        A functional model of the same outputs that shares nothing with `model` and holds no models as layers.
    """
    copies: dict[int, keras.layers.Layer] = {}
    names: set[str] = set()

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in copies:
            config = layer.get_config()
            while config["name"] in names:  # the same name in two nested models
                config["name"] += "_1"
            names.add(config["name"])
            copies[id(layer)] = type(layer).from_config(config)
        return copies[id(layer)]

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return run(functional(layer), args[0] if len(args) == 1 else args, call)
        return copied(layer)(*args, **kwargs)

    result = rewrite(model, call)
    for layer in _leaves(model):
        copies[id(layer)].set_weights(layer.get_weights())
    return result


def functional(model: keras.Model) -> keras.Model:
    """The functional form of a model: itself, or a Sequential's graph.

    Raises:
        ValueError: There is none.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not hasattr(model, "_run_through_graph"):
        raise ValueError(
            f"`{model.name}` ({type(model).__name__}) has no graph of layers to read: build it with keras.Input and "
            "keras.Model(inputs, outputs), or call build() on a Sequential first."
        )
    return model


def calls(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """Each layer's call in the order of the graph: (layer, input tensors, output tensors)."""
    nodes_by_depth = model._nodes_by_depth
    for depth in sorted(nodes_by_depth, reverse=True):
        for node in nodes_by_depth[depth]:
            if not node.is_input:
                yield node.operation, list(node.input_tensors), list(node.outputs)


def consumers(model: keras.Model) -> dict[str, list[keras.layers.Layer | None]]:
    """Who reads what each layer puts out.

    Args:
        model: Flat functional model, as `copy` returns it.

    Returns:
        Layer name -> the layers that read its output, in the order of the graph; None stands for the model's outputs.
        Input layers are among the names.
    """
    readers: dict[str, list[keras.layers.Layer | None]] = {layer.name: [] for layer in model.layers}
    for layer, inputs, _ in calls(model):
        for tensor in inputs:
            readers[producer(tensor).name].append(layer)
    for tensor in model.outputs:
        readers[producer(tensor).name].append(None)
    return readers


def producer(tensor: keras.KerasTensor) -> keras.layers.Layer:
    """The layer that a Keras tensor comes out of."""
    return tensor._keras_history.operation


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer, _, _ in calls(functional(model)):
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def run(model: keras.Model, inputs: Any, call: Call) -> Any:
    """Goes through the calls of a functional model with other inputs, and makes no new model.

    Args:
        model: Functional model.
        inputs: What stands for the model's inputs, in their structure.
        call: Stands in for each layer's call: `call(layer, *args, **kwargs)`.

    Returns:
        What stands for the model's outputs, in their structure.
    """
    return model._run_through_graph(inputs, operation_fn=lambda layer: layer, call_fn=call)


def sublayers(layer: Any) -> list[keras.layers.Layer]:
    """The layers inside a layer, however deep."""
    return list(layer._flatten_layers(include_self=False)) if isinstance(layer, keras.layers.Layer) else []


def parameters(layer: Any) -> list[keras.Variable]:
    """The weights of a layer that training changes where the layer isn't frozen."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    return [variable for part in (layer, *sublayers(layer)) for variable in part._trainable_variables]
