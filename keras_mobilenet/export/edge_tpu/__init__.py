"""What the Edge TPU will run of a .tflite file, and what its compiler made of one; neither needs the compiler.

`check` reads a file before compilation, `inspect` a compiled one. The rules stand in `rules.py`, the memory that
parameters take in `parameters.py`. Nothing here imports TensorFlow.
"""

from keras_mobilenet.export.edge_tpu.compiled import CompiledModel, inspect
from keras_mobilenet.export.edge_tpu.rules import Reason
from keras_mobilenet.export.edge_tpu.static_check import CheckedOperator, CheckReport, check

__all__ = ["CheckReport", "CheckedOperator", "CompiledModel", "Reason", "check", "inspect"]
