"""MobileNetV1 and V2 for Keras 3: build, train, prune, quantize, export, serve.

Names load when they are first used, so that `keras_mobilenet.client` imports neither TensorFlow nor Keras.
"""

import lazy_loader

from keras_mobilenet import registration as _registration  # noqa: F401

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
