"""scikit-learn's scanned digits from scratch: the embedded data set, for `make demo` and for tests.

Source: the data set is UCI's optical recognition of handwritten digits, 1,797 pictures of 8 x 8 pixels.
Command: python -m training.train --recipe=digits --output_dir=runs/digits
Machine, time: not measured yet.
Expected: top-1 of 98 % on the 180 validation pictures after 18 epochs.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    model="mobilenet_v2",
    alpha=0.35,
    image_size=48,  # at 32 px, stride 32 leaves one pixel and nothing is learned
    dataset="digits",
    cache=True,
    evaluation_crop=0.0,
    flip=False,
    reflect=4,
    epochs=18,
    learning_rate=0.1,
    warmup_epochs=2.0,
    weight_decay=1e-4,
    stages="float,prune,quantize",
    sparsity=0.5,
    prune_epochs=3,
    prune_learning_rate=0.05,
    quantize_epochs=2,
    quantize_learning_rate=0.005,
)
