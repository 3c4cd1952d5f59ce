import numpy as np
import pytest
import tensorflow as tf

from training.data.order import batch_indices, own_part, steps_per_epoch


def epoch(number, count=103, batch_size=10, seed=5):
    steps = steps_per_epoch(count, batch_size)
    taken = range(number * steps, (number + 1) * steps)
    return np.concatenate([batch_indices(tf.constant(step, tf.int64), count, batch_size, seed) for step in taken])


def test_an_epoch_has_no_picture_twice():
    for number in range(5):
        order = epoch(number)
        assert len(order) == 100
        assert len(set(order)) == 100
        assert order.min() >= 0
        assert order.max() <= 102


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = [epoch(0), epoch(1), epoch(2), epoch(0, seed=6)]
    for index, order in enumerate(orders):
        for other in orders[index + 1 :]:
            assert np.mean(order == other) < 0.1


def test_pictures_left_over_change_from_epoch_to_epoch():
    left = {tuple(sorted(set(range(103)) - set(epoch(number)))) for number in range(20)}
    assert len(left) > 15


def test_neighbours_in_the_data_are_far_apart_in_the_order():
    order = epoch(0, count=2000, batch_size=50)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(np.arange(2000), order)[0, 1]) < 0.1


def test_parts_are_the_batch():
    batch = tf.range(12)
    np.testing.assert_array_equal(tf.concat([own_part(batch, 3, worker) for worker in range(3)], 0), batch)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_holds_at_most_all_pictures(batch_size):
    with pytest.raises(ValueError, match="allowed are 1 to 10"):
        steps_per_epoch(10, batch_size)
