"""Programs that serve and deploy: `python -m serving.server`."""

import os

# Before TensorFlow is imported, its start-up messages can only be turned off from the environment.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
