"""Programs for the Edge TPU: `python -m serving.edge_tpu.compile`, `python -m serving.edge_tpu.run`."""
