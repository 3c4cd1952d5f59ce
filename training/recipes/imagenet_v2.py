r"""MobileNetV2 on ImageNet as in its paper.

Source: arXiv:1801.04381, section 6.1: RMSprop with decay and momentum 0.9, weight decay 4e-5, learning rate 0.045 that
    falls by 0.98 an epoch, 16 GPUs with a batch of 96 each.
Command: python -m training.train --recipe=imagenet_v2 --output_dir=runs/imagenet_v2 --strategy=multi_worker \
    --dataset=imagenet2012 --data_dir=/data/tensorflow_datasets
    on every worker, with its TF_CONFIG (serving/kubernetes/training/ has an example).
Machine, time: not run here (two CPU cores). It is laid out for 16 GPUs.
Expected: top-1 of 72.0 % in the paper, 71.8 % of the published checkpoint.
"""

import dataclasses

from training.recipes import imagenet_v1

RECIPE = dataclasses.replace(imagenet_v1.RECIPE, model="mobilenet_v2", dropout=0.2)
