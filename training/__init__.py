"""Programs that train, evaluate and report: `python -m training.train`."""

import os

from keras_mobilenet import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # only the environment, before the import, reaches TensorFlow's messages
quiet.import_tensorflow()
