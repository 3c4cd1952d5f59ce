from . import blocks as blocks
from . import layers as layers
from .layers import BatchNormalization as BatchNormalization
from .mobilenet_v1 import MobileNetV1 as MobileNetV1
from .mobilenet_v2 import MobileNetV2 as MobileNetV2
from .mobilenet_v2 import Stage as Stage
