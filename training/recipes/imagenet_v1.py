r"""MobileNetV1 on ImageNet as in its paper, as far as the paper says it.

Source: arXiv:1704.04861, section 3.2: RMSprop, no label smoothing, little augmentation, no weight decay on depthwise
    filters. The paper gives no learning rate; those here are V2's (arXiv:1801.04381, section 6.1: momentum 0.9, 0.045
    falling by 0.98 an epoch, weight decay 4e-5, batch 96 on each of 16 GPUs).
Command: python -m training.train --recipe=imagenet_v1 --output_dir=runs/imagenet_v1 --strategy=mirrored \
    --dataset=imagenet2012 --data_dir=~/tensorflow_datasets
Machine, time: not run here (two CPU cores). It is laid out for 8 GPUs with 16 GB each.
Expected: top-1 of 70.6 % in the paper, 70.9 % of the published checkpoint.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    model="mobilenet_v1",
    alpha=1.0,
    image_size=224,
    dropout=0.001,
    batch_norm_momentum=0.997,
    dataset="imagenet2012",
    validation_share=0.0,
    crop_min_area=0.08,
    epochs=300,
    batch_size=1536,
    optimizer="rmsprop",
    learning_rate=0.045,
    schedule="exponential",
    decay_rate=0.98,
    decay_epochs=1.0,
    weight_decay=4e-5,
    ema=0.9999,
)
