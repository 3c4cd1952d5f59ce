"""Accuracy of a classifier over a split."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

Predict = Callable[[tf.Tensor], Any]  # float images [N, H, W, 3] in [-1, 1] -> the model's outputs
Evaluate = Callable[[Predict], dict[str, float]]  # figures of a model on some pictures


def evaluate(
    predict: Predict,
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    total: Callable[[np.ndarray], np.ndarray] = lambda counts: counts,
) -> dict[str, float]:
    """Top-1 and top-5 accuracy.

    Args:
        predict: The model; its outputs are scores [N, classes] that rise with the probability.
        batches: Images, and labels int64 [N].
        total: Adds up the counts of all processes that share the pictures; by default this one has them all.

    Returns:
        `accuracy` and `top_5`, shares of the pictures, 0 to 1. With fewer than six classes `top_5` is 1.

    Raises:
        ValueError: There is no picture.
    """
    counts = np.zeros(3, np.int64)
    for images, labels in batches:
        ranks = rank(np.asarray(predict(images)), np.asarray(labels))
        counts += len(ranks), np.sum(ranks == 0), np.sum(ranks < 5)
    pictures, top_1, top_5 = (int(count) for count in total(counts))
    if pictures == 0:
        raise ValueError("There is no picture to evaluate on: the split is empty.")
    return {"accuracy": top_1 / pictures, "top_5": top_5 / pictures}


def rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the right one; equal scores count in the order of the classes.

    Args:
        scores: [N, classes].
        labels: int64 [N].

    Returns:
        int64 [N]; 0 where the right class has the highest score.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return np.sum((scores > own) | ((scores == own) & earlier), axis=1)
