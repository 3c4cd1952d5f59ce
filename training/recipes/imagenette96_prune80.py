r"""Pruning to 80 % zeros, 2 epochs behind the 4 of `imagenette96`.

Source: arXiv:1710.01878 (the schedule, tensorflow-model-optimization's `PolynomialDecay`), arXiv:2010.07611 (how the
    zeros are shared out); `imagenette96` for the rest.
Command: python -m training.train --recipe=imagenette96_prune80 --output_dir=runs/imagenette96_prune80 \
    --data_dir=../shared/data/train --weights=../shared/data/weights/mobilenet_v2_0.35_224_no_top_float.h5
Machine, time: two cores of an AMD EPYC; see `imagenette96`.
Expected: top-1 of 84.1 % (2026-11-24, one seed; 78.9 % with --prune_allocation=uniform); the peer's model has 77.0 %.
"""

import dataclasses

from training.recipes import imagenette96_prune50

RECIPE = dataclasses.replace(imagenette96_prune50.RECIPE, stages="float,prune", sparsity=0.8, prune_allocation="lamp")
