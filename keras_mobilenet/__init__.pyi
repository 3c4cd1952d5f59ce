from . import blocks as blocks
from . import layers as layers
from .export.saved_model import export_saved_model as export_saved_model
from .layers import BatchNormalization as BatchNormalization
from .mobilenet_v1 import MobileNetV1 as MobileNetV1
from .mobilenet_v2 import MobileNetV2 as MobileNetV2
from .mobilenet_v2 import Stage as Stage
from .optimization.folding import fold_batch_norm as fold_batch_norm
