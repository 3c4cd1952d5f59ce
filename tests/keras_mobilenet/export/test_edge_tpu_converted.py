"""The check on what TensorFlow's converter writes today."""

import numpy as np
import pytest

from keras_mobilenet.export import edge_tpu
from keras_mobilenet.export.edge_tpu import Reason


@pytest.fixture(scope="module")
def convert():
    """Converts a layer stack to int8 (or float) from a frozen function of the given batch."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def make(model, batch=1, quantize=True, io_type=tf.uint8):
        spec = tf.TensorSpec((batch, *model.input.shape[1:]), name="image")
        frozen = convert_variables_to_constants_v2(tf.function(model).get_concrete_function(spec))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        if quantize:
            images = np.random.default_rng(0).uniform(-1, 1, (8, 1, *model.input.shape[1:])).astype("float32")
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([np.repeat(image, batch or 1, 0)] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = io_type
        return converter.convert()

    return make


def network(head, size=16):
    """A small stack of a MobileNet's layers with one of three classifiers."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu6")(image)
    y = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = keras.layers.Add()([x, keras.layers.Conv2D(16, 1)(y)])
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    if head == "dense":
        x = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    else:
        x = keras.layers.Reshape((10,))(keras.layers.Conv2D(10, 1)(x))
    return keras.Model(image, keras.layers.Softmax()(x))


def test_a_1x1_convolution_as_classifier_maps(convert):
    report = edge_tpu.check(convert(network("convolution")))
    assert report.fully_mapped, report.cpu_operators
    assert {"QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "RESHAPE", "SOFTMAX"} == {
        operator.name for operator in report.operators
    }


def test_a_dense_layer_with_a_scale_per_channel_does_not(convert):
    content = convert(network("dense"))
    report = edge_tpu.check(content)
    row = next(operator for operator in report.operators if operator.name == "FULLY_CONNECTED")
    assert not row.mapped
    assert row.reason == Reason.LIMITATION and "scale per channel" in row.detail
    behind = [operator for operator in report.operators if operator.name in ("SOFTMAX", "QUANTIZE")][-2:]
    assert [operator.reason for operator in behind] == [Reason.SECOND_SUBGRAPH] * 2


def test_float_ends_stay_on_the_cpu(convert):
    import tensorflow as tf

    report = edge_tpu.check(convert(network("convolution"), io_type=tf.float32))
    assert report.cpu_operators == ("QUANTIZE", "DEQUANTIZE")


def test_a_float_model_has_nothing_to_map(convert):
    report = edge_tpu.check(convert(network("convolution"), quantize=False))
    assert {operator.reason for operator in report.operators} == {Reason.DATA_TYPE}
    assert (report.cached_bytes, report.fully_mapped) == (0, False)


def test_a_free_batch_is_refused(convert):
    report = edge_tpu.check(convert(network("convolution"), batch=None))
    assert {operator.reason for operator in report.operators} == {Reason.DYNAMIC}
    assert "batch 1" in report.operators[0].detail


def test_a_batch_of_four_does_not_map(convert):
    report = edge_tpu.check(convert(network("convolution"), batch=4))
    assert not report.fully_mapped
    assert "three innermost dimensions" in report.operators[0].detail


def test_keras_own_conversion_is_dynamic():
    import tensorflow as tf

    report = edge_tpu.check(tf.lite.TFLiteConverter.from_keras_model(network("dense")).convert())
    assert {operator.reason for operator in report.operators} == {Reason.DYNAMIC}
