"""What a detector's outputs mean; the model carries it, whatever is done with it."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_mobilenet import graph
from keras_mobilenet.detection.anchors import Anchors

BOXES, CLASSES = "box_encodings", "class_logits"  # names of the outputs
SCORES = ("sigmoid", "softmax")


@dataclass(frozen=True)
class Head:
    """What the outputs of a detector mean.

    Attributes:
        anchors: Where the box encodings [N, anchors, 4] are seen from.
        scores: What turns class logits into scores: "sigmoid", with one logit a class, or "softmax", with one for the
            background before them.
        classes: Number of classes, the background not counted.
    """

    anchors: Anchors
    scores: str
    classes: int

    @property
    def background(self) -> int:
        """How many logits stand before the first class's: 0 or 1."""
        return int(self.scores == "softmax")


@keras.saving.register_keras_serializable(package="keras_mobilenet")
class AnchoredBoxes(keras.layers.Identity):
    """Puts out box encodings as they come in, and keeps what they and the class logits mean.

    Pruning, quantization, folding, files and exports keep layers and their configuration; so a detector tells its
    anchors wherever it goes.

    Args:
        anchors: `Anchors.config()`.
        scores: "sigmoid" or "softmax".
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, anchors: dict[str, Any], scores: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.anchors = Anchors.from_config(dict(anchors))
        self.scores = scores

    def get_config(self) -> dict[str, Any]:  # noqa: D102
        return super().get_config() | {"anchors": self.anchors.config(), "scores": self.scores}


def head_of(model: keras.Model) -> Head | None:
    """What a model's outputs mean; None where it is no detector of this package.

    Args:
        model: Functional model, pruned, quantized or folded or not.

    Example:
    ```python
    anchors = detection.head_of(km.SSDLite()).anchors.boxes  # [2034, 4]
    ```
    """
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 2 or not isinstance(graph.producer(outputs[0]), AnchoredBoxes):
        return None
    layer = graph.producer(outputs[0])
    return Head(layer.anchors, layer.scores, outputs[1].shape[-1] - int(layer.scores == "softmax"))


def require(model: keras.Model) -> Head:
    """`head_of` a model that has to be a detector.

    Raises:
        ValueError: It is none.
    """
    head = head_of(model)
    if head is None:
        raise ValueError(f"`{model.name}` is no detector: pass a model of km.SSDLite or km.SSD, or one made from it.")
    return head
