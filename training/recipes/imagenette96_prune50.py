r"""Pruning to 50 % zeros, 2 epochs behind the 4 of `imagenette96`; then quantization-aware training that keeps them.

Source: arXiv:1710.01878 (the schedule, tensorflow-model-optimization's `PolynomialDecay`); `imagenette96` for the rest.
Command: python -m training.train --recipe=imagenette96_prune50 --output_dir=runs/imagenette96_prune50 \
    --data_dir=../shared/data/train --weights=../shared/data/weights/mobilenet_v2_0.35_224_no_top_float.h5
Machine, time: two cores of an AMD EPYC; see `imagenette96`.
Expected: top-1 of 83.8 % pruned and 83.5 % as an int8 file with 50 % zeros; the peer's pruned model has 83.6 %.
"""

import dataclasses

from training.recipes import imagenette96

RECIPE = dataclasses.replace(
    imagenette96.RECIPE,
    stages="float,prune,quantize",
    sparsity=0.5,
    prune_epochs=2,
    prune_learning_rate=0.01,
    prune_ramp=0.5,  # of 284 steps: the sparsity rises to step 142
    prune_frequency=10,
    quantize_epochs=2,
    quantize_learning_rate=0.002,
)
