r"""Quantization-aware training, 2 epochs behind the 4 of `imagenette96`, from calibrated ranges.

Source: arXiv:1712.05877; `imagenette96` for the rest.
Command: python -m training.train --recipe=imagenette96_quantize --output_dir=runs/imagenette96_quantize \
    --data_dir=../shared/data/train --weights=../shared/data/weights/mobilenet_v2_0.35_224_no_top_float.h5
Machine, time: two cores of an AMD EPYC; see `imagenette96`.
Expected: top-1 of 83.8 % as an int8 file, and 83.6 % for the float model quantized after training; the peer's
    quantization-aware training ends at 79.1 %.
"""

import dataclasses

from training.recipes import imagenette96

RECIPE = dataclasses.replace(
    imagenette96.RECIPE, stages="float,quantize", quantize_epochs=2, quantize_learning_rate=0.002
)
