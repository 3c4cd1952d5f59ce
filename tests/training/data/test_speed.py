import pytest
import tensorflow as tf

from training import data


def test_pictures_are_counted_over_the_time_that_they_take():
    def slow(number):
        tf.py_function(lambda: __import__("time").sleep(0.05), [], [])
        return tf.zeros([4, 2, 2, 3]), tf.zeros([4])

    dataset = tf.data.Dataset.range(12).map(slow)
    assert 20 < data.pictures_per_second(dataset, warm_up=2) <= 81
    assert 20 < data.pictures_per_second(dataset.repeat(), seconds=0.3, warm_up=2) <= 81
    with pytest.raises(ValueError, match="warm-up of 12"):
        data.pictures_per_second(dataset, warm_up=12)
