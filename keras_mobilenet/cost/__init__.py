"""What a network costs: parameters, multiply-adds, activation memory; counted in models, and the papers' formulas."""

from keras_mobilenet.cost.counting import LayerCost, ModelCost, count
from keras_mobilenet.cost.formulas import ConvolutionCost, depthwise_separable, reduction, standard_convolution

__all__ = [
    "ConvolutionCost",
    "LayerCost",
    "ModelCost",
    "count",
    "depthwise_separable",
    "reduction",
    "standard_convolution",
]
