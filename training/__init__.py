"""Programs that train, evaluate and report: `python -m training.train`."""

import os

from keras_mobilenet import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
quiet.import_tensorflow()
