r"""SSDLite on 128 photos of COCO, until it knows them by heart: a check that loss, coding and matching are right.

Source: arXiv:1801.04381, section 6.2; the photos are coco128, of 80 classes, 71 of them there.
Command: python -m training.train --recipe=coco128_ssdlite --output_dir=runs/coco128_ssdlite \
    --data_dir=../shared/data/coco128 --weights=../shared/data/weights/mobilenet_v2_0.35_224_no_top_float.h5
Machine, time: 2 cores of an AMD EPYC, shared with other work (load 8 to 14), 2026-11-24: 425 s for the float stage and
    315 s for the quantize stage, on the wall.
Expected: on the 128 photos that it was trained on AP50 83.8 % and AP 64.0 %; as an int8 file quantized after training
    83.1 and 62.1 %, after quantization-aware training 86.1 and 64.7 %. On 128 others AP50 1.0 % and AP 0.3 %: so few
    photos, without any change to them, teach nothing about other ones.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    task="detection",
    model="mobilenet_v2",
    alpha=0.35,
    image_size=224,
    dataset="coco_json",
    train_files="train.json",
    validation_files="val.json",
    test_files="train.json",  # the figures are those of the photos that it was trained on
    cache=True,
    flip=False,
    epochs=50,
    validate_every=50,
    batch_size=8,
    optimizer="adamw",
    learning_rate=1.5e-3,
    warmup_epochs=1.5,
    weight_decay=1e-4,
    stages="float,quantize",
    quantize_epochs=12,
    quantize_learning_rate=3e-4,
)
