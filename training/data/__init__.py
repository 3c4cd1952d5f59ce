"""Pictures for training and evaluation: where they come from, which of them are fit, and batches of them."""

from training.data.order import steps_per_epoch
from training.data.pictures import Source, Split, hold_out
from training.data.pipeline import Augmentation, Input, batches
from training.data.sources import load
from training.data.speed import pictures_per_second
from training.data.verification import BadPicture, BadPicturesError, verify

__all__ = [
    "Augmentation",
    "BadPicture",
    "BadPicturesError",
    "Input",
    "Source",
    "Split",
    "batches",
    "hold_out",
    "load",
    "pictures_per_second",
    "steps_per_epoch",
    "verify",
]
