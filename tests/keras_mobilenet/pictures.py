"""Pictures for tests, drawn and encoded by Pillow."""

import io

import numpy as np
from PIL import Image


def picture(height=37, width=53, mode="RGB"):
    """A smooth picture with some noise, so that each format has something to compress."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 40, (height, width))
    channels = [x * 200 // width + noise, y * 200 // height + noise, (x + y) * 2 % 200 + noise]
    return Image.fromarray(np.stack(channels, -1).astype("uint8")).convert(mode)


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pillow(contents):
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))
