"""How fast batches come, for benchmarks."""

import time

import tensorflow as tf


def pictures_per_second(dataset: tf.data.Dataset, seconds: float = 5.0, warm_up: int = 10) -> float:
    """Measures a pipeline that nothing else holds up.

    Args:
        dataset: batches of images and labels, see `batches`.
        seconds: how long to measure; a dataset that ends before is measured to its end.
        warm_up: batches to take before, in which buffers fill and tf.data finds its number of threads.

    Returns:
        Pictures per second.

    Raises:
        ValueError: the dataset has not more than `warm_up` batches.
    """
    batches, pictures = iter(dataset), 0
    for _ in range(warm_up):
        next(batches, None)
    start = time.perf_counter()
    for images, _ in batches:
        pictures += int(tf.shape(images)[0])
        if time.perf_counter() - start >= seconds:
            break
    if not pictures:
        raise ValueError(f"The dataset ended within the warm-up of {warm_up} batches; give a longer one, or fewer.")
    return pictures / (time.perf_counter() - start)
