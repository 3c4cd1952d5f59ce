"""How a model leaves: SavedModel, TFLite, and what the Edge TPU makes of it."""

from keras_mobilenet.export import edge_tpu as edge_tpu
