"""Accuracy of a classifier over a split."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

Predict = Callable[[tf.Tensor], Any]  # float images [N, H, W, 3] in [-1, 1] -> scores [N, classes]


def evaluate(predict: Predict, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> dict[str, float]:
    """Top-1 and top-5 accuracy.

    Args:
        predict: The model; any scores that rise with the probability.
        batches: Images, and labels int64 [N].

    Returns:
        `accuracy` and `top_5`, shares of the pictures, 0 to 1. With fewer than six classes `top_5` is 1.
    """
    pictures = top_1 = top_5 = 0
    for images, labels in batches:
        scores, labels = np.asarray(predict(images)), np.asarray(labels)
        # How many classes stand before the right one; equal scores count in the order of the classes.
        own = scores[np.arange(len(labels)), labels][:, None]
        earlier = np.arange(scores.shape[1]) < labels[:, None]
        rank = np.sum((scores > own) | ((scores == own) & earlier), axis=1)
        pictures += len(labels)
        top_1 += int(np.sum(rank == 0))
        top_5 += int(np.sum(rank < 5))
    if pictures == 0:
        raise ValueError("There is no picture to evaluate on: the split is empty.")
    return {"accuracy": top_1 / pictures, "top_5": top_5 / pictures}
