"""The messages of TF Serving's protocol and the coding of their tensors, without TensorFlow."""

from keras_mobilenet.wire.messages import DESCRIPTOR_FILE as DESCRIPTOR_FILE
from keras_mobilenet.wire.messages import POOL as POOL
from keras_mobilenet.wire.messages import message_class as message_class
from keras_mobilenet.wire.tensors import to_array as to_array
from keras_mobilenet.wire.tensors import to_tensor_proto as to_tensor_proto
from keras_mobilenet.wire.tensors import write_tensor as write_tensor
