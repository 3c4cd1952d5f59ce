r"""Fine-tuning at 96 px: ten classes of ImageNet from a V2 0.35 that knows all thousand; 4 epochs.

Source: imagenette (github.com/fastai/imagenette) as TFRecords of 96 x 96 JPEG, 9,103 and 3,791 pictures. The
    schedule is that of the tf_keras and tensorflow-model-optimization run in `python -m training.benchmark`, so that
    both can be compared: SGD with momentum 0.9, cosine decay, batch 64, flip, and a random crop after reflecting 8
    pixels.
Command: python -m training.train --recipe=imagenette96 --output_dir=runs/imagenette96 \
    --data_dir=../shared/data/train --weights=../shared/data/weights/mobilenet_v2_0.35_224_no_top_float.h5
Machine, time: two cores of an AMD EPYC; all of `python -m training.benchmark --rows=accuracy` took 9 min.
Expected: top-1 of 84.6 % on the 3,791 validation pictures (2026-11-24, one seed); the peer reaches 83.8 %.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    model="mobilenet_v2",
    alpha=0.35,
    image_size=96,
    batch_norm_momentum=0.9,
    dataset="tfrecord",
    train_files="imagenette96_train*.tfrecord",
    validation_files="imagenette96_val*.tfrecord",
    labels_file="imagenette_labels.txt",
    cache=True,
    evaluation_crop=0.0,  # the pictures have the network's size
    reflect=8,
    epochs=4,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.02,
)
