"""What a single-shot detector is made of besides its network: anchors, box coding, matching, losses, suppression."""

from keras_mobilenet.detection.anchors import Anchors
from keras_mobilenet.detection.box_coding import decode, encode
from keras_mobilenet.detection.head import Head, head_of
from keras_mobilenet.detection.losses import multibox_loss
from keras_mobilenet.detection.matching import Matches, intersection_over_union, match
from keras_mobilenet.detection.postprocessing import NonMaxSuppression, detect, suppress

__all__ = [
    "Anchors",
    "Head",
    "Matches",
    "NonMaxSuppression",
    "decode",
    "detect",
    "encode",
    "head_of",
    "intersection_over_union",
    "match",
    "multibox_loss",
    "suppress",
]
