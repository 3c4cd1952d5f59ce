"""Measures the embedded server: `python -m serving.benchmark`."""
