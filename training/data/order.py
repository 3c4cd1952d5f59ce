"""Which pictures a step sees: a pure function of the seed and the step, so that a run can go on from any step."""

import tensorflow as tf


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch; the pictures that are left over take their turn in the next epoch's order.

    Args:
        count: pictures in the split.
        batch_size: of the global batch.

    Raises:
        ValueError: there are fewer pictures than a batch holds.
    """
    if not 1 <= batch_size <= count:
        raise ValueError(
            f"The batch size is {batch_size}, and the split has {count} pictures: allowed are 1 to {count}. "
            "Lower the batch size or add pictures."
        )
    return count // batch_size


def batch_indices(step: tf.Tensor, count: int, batch_size: int, seed: int) -> tf.Tensor:
    """Positions of the pictures of a training step, in a new random order every epoch.

    Args:
        step: int64 scalar, counted over the whole run from 0.
        count: pictures in the split.
        batch_size: of the global batch.
        seed: of the run.

    Returns:
        int64 [batch_size], 0 <= position < count; no position comes twice in an epoch.
    """
    steps = steps_per_epoch(count, batch_size)
    epoch, first = step // steps, (step % steps) * batch_size
    places = first + tf.range(batch_size, dtype=tf.int64)
    return tf.random.experimental.index_shuffle(places, tf.stack([tf.constant(seed, tf.int64), epoch]), count - 1)


def own_part(batch: tf.Tensor, num_workers: int, worker: int) -> tf.Tensor:
    """A worker's rows of a global batch; the workers' parts, one behind the other, are the batch."""
    size = batch.shape[0] // num_workers
    return batch[worker * size : (worker + 1) * size]
