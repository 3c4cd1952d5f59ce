r"""DeepLabv3 on V2 0.5: Coral's PASCAL VOC weights, fine-tuned on 100 photos of COCO with VOC's classes; float, int8.

Source: arXiv:1706.05587, section 4.1 (polynomial decay, random scales, flip), with batch norm left as it is: in Coral's
    file it is folded into the convolutions. The photos are coco128's, 100 for training and 100 for the figures.
Command: python -m training.train --recipe=coco128_deeplab --output_dir=runs/coco128_deeplab \
    --data_dir=../shared/data/coco128 --weights=../shared/data/weights/deeplabv3_mnv2_dm05_pascal_quant.tflite
Machine, time: not measured yet.
Expected: mean IoU above that of the weights it starts from, and within 2 points of it as an int8 file.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    task="segmentation",
    model="mobilenet_v2",
    alpha=0.5,
    image_size=257,
    dataset="mask_folder",
    train_files="train/masks_voc21",
    validation_files="val/masks_voc21",
    labels_file="voc21_labels.txt",
    cache=True,
    freeze_batch_norm=True,
    epochs=10,
    validate_every=5,
    batch_size=10,
    optimizer="sgd",
    learning_rate=1e-3,
    schedule="poly",
    weight_decay=4e-5,
    stages="float,quantize",
    quantize_epochs=3,
    quantize_learning_rate=1e-4,
    calibration_pictures=60,
)
