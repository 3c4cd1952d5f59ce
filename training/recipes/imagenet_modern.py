r"""MobileNetV2 on ImageNet with what came after its paper, and an int8 model at the end.

Source: cosine decay (arXiv:1608.03983), warm-up and no decay on batch norm and biases (arXiv:1812.01187), RandAugment
    (arXiv:1909.13719), mixup (arXiv:1710.09412), label smoothing (arXiv:1512.00567), AdamW (arXiv:1711.05101), moving
    average of the weights; quantization-aware training (arXiv:1712.05877).
Command: python -m training.train --recipe=imagenet_modern --output_dir=runs/imagenet_modern --strategy=mirrored \
    --dataset=imagenet2012 --data_dir=~/tensorflow_datasets
Machine, time: not run here (two CPU cores). It is laid out for 8 GPUs that compute in bfloat16; with float16 give
    --precision=mixed_float16.
Expected: no figure of our own, since it was not run; timm's mobilenetv2_100 (RandAugment, moving average) has 73.0 %
    top-1.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    model="mobilenet_v2",
    alpha=1.0,
    image_size=224,
    dropout=0.2,
    batch_norm_momentum=0.99,
    dataset="imagenet2012",
    validation_share=0.0,
    crop_min_area=0.25,
    rand_augment=2,
    magnitude=5.0,
    mixup=0.1,
    epochs=300,
    batch_size=1024,
    optimizer="adamw",
    learning_rate=2e-3,
    warmup_epochs=5.0,
    weight_decay=0.02,
    label_smoothing=0.1,
    ema=0.9999,
    stages="float,quantize",
    quantize_epochs=10,
    quantize_learning_rate=2e-5,
    calibration_pictures=2048,
    precision="mixed_bfloat16",
)
