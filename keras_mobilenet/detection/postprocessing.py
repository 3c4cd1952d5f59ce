"""The last step of a detector, behind the network: boxes decoded, scores taken, overlapping boxes suppressed."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_mobilenet.detection import box_coding
from keras_mobilenet.detection.head import Head, require

OUTPUTS = ("boxes", "classes", "scores", "num_detections")


@dataclass(frozen=True)
class NonMaxSuppression:
    """Which of a detector's boxes remain.

    Attributes:
        score_threshold: Least score, 0 to 1.
        iou_threshold: Of two boxes of a class that cover one another by more than this, the one with the lower score
            goes; above 0, up to 1.
        max_detections: How many boxes remain at most.
    """

    score_threshold: float = 0.01
    iou_threshold: float = 0.6
    max_detections: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"`score_threshold={self.score_threshold}` is not a score: pass 0 to 1.")
        if not 0 < self.iou_threshold <= 1:
            raise ValueError(f"`iou_threshold={self.iou_threshold}` is not a share: pass a number above 0, up to 1.")
        if isinstance(self.max_detections, bool) or int(self.max_detections) < 1:
            raise ValueError(f"`max_detections={self.max_detections}` is not a count: pass a whole number from 1 on.")


def scores(logits: Any, head: Head) -> tf.Tensor:
    """Scores of the classes, the background left out: float32 [N, anchors, classes]."""
    activation = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}[head.scores]
    return activation(tf.cast(logits, tf.float32))[..., head.background :]


def suppress(
    encodings: Any, logits: Any, head: Head, suppression: NonMaxSuppression | None = None
) -> dict[str, tf.Tensor]:
    """Turns a detector's outputs into boxes, class by class without those that cover a better one.

    Args:
        encodings: float32 [N, anchors, 4], the model's first output.
        logits: float32 [N, anchors, classes (+ 1)], its second.
        head: What they mean.
        suppression: Which boxes remain; by default `NonMaxSuppression()`.

    Returns:
        `boxes` float32 [N, max_detections, 4]: ymin, xmin, ymax, xmax as shares of the picture's sides, inside the
        picture; `classes` float32 [N, max_detections], numbers from 0 on, as TFLite_Detection_PostProcess and the
        TensorFlow object detection API give them; `scores` float32, falling; `num_detections` float32 [N]. What
        follows the last detection is 0.
    """
    suppression = suppression or NonMaxSuppression()
    boxes = box_coding.decode(encodings, head.anchors.boxes)
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None],
        scores(logits, head),
        max_output_size_per_class=suppression.max_detections,
        max_total_size=suppression.max_detections,
        iou_threshold=suppression.iou_threshold,
        score_threshold=suppression.score_threshold,
    )
    values = (found.nmsed_boxes, found.nmsed_classes, found.nmsed_scores, tf.cast(found.valid_detections, tf.float32))
    return dict(zip(OUTPUTS, values, strict=True))


def detect(model: keras.Model, images: Any, suppression: NonMaxSuppression | None = None) -> dict[str, Any]:
    """Finds objects in pictures.

    Args:
        model: Detector of `km.SSDLite` or `km.SSD`, or one made from it.
        images: float [N, height, width, 3] in [-1, 1], as the model reads them.
        suppression: Which boxes remain; by default `NonMaxSuppression()`.

    Returns:
        `boxes`, `classes`, `scores` and `num_detections` as NumPy arrays, as `detection.suppress` describes them.

    Raises:
        ValueError: The model is no detector.

    Example:
    ```python
    found = km.detect(model, km.preprocess_input(pictures))
    found["boxes"][0, : int(found["num_detections"][0])]
    ```
    """
    head = require(model)
    encodings, logits = model(images, training=False)
    return {name: value.numpy() for name, value in suppress(encodings, logits, head, suppression).items()}
