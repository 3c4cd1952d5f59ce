"""One `Predictor` over everything a MobileNet is stored as: Keras, SavedModel, LiteRT and Edge TPU files.

TensorFlow is imported for the first two alone, so that LiteRT and Edge TPU files run on a board that has only
ai-edge-litert.
"""

from keras_mobilenet.runtime.artefact import Artefact, Kind, find
from keras_mobilenet.runtime.predictor import Predictor
from keras_mobilenet.runtime.session import TensorSpec, Timing

__all__ = ["Artefact", "Kind", "Predictor", "TensorSpec", "Timing", "find"]
