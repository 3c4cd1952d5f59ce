"""Batches of pictures on tf.data, for training and for evaluation.

A training batch is a pure function of the seed and the step. Nothing keeps a random state, so the pipeline starts at
any step at once, and gives there what an unbroken run would have given.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from keras_mobilenet import preprocessing
from training.data import augment, decode
from training.data.order import batch_indices, own_part, steps_per_epoch
from training.data.pictures import Decoded, Split
from training.data.rand_augment import rand_augment

PICTURE, FLIP_AND_SHIFT, MIXUP, CUTMIX = range(4)
"""What a random number is for; each purpose draws from its own stream."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training pictures, in the order in which they are made.

    Attributes:
        crop_scale: least and largest area of a random resized crop over the picture's, such as (0.08, 1); None for the
            whole picture.
        crop_ratio: least and largest width over height of that crop.
        rand_augment: RandAugment's number of operations to a picture; 0 for none.
        magnitude: RandAugment's strength, 0 to 10.
        flip: mirror half of the pictures left to right.
        reflect: shift by up to so many pixels, reflecting at the edges; 0 for none.
        mixup: alpha of mixup's Beta distribution; 0 for none.
        cutmix: alpha of CutMix's; 0 for none. With mixup as well, each picture gets one of the two.
    """

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    rand_augment: int = 0
    magnitude: float = 9.0
    flip: bool = True
    reflect: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale is {self.crop_scale}; allowed are two areas, 0 < least <= largest <= 1.")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"crop_ratio is {self.crop_ratio}; allowed are two ratios, 0 < least <= largest.")
        if not 0 <= self.magnitude <= 10:
            raise ValueError(f"magnitude is {self.magnitude}; RandAugment's strength is 0 to 10.")
        for name in ("rand_augment", "reflect", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 (none) and above.")

    @property
    def mixes(self) -> bool:
        """Whether pictures, and with them labels, are mixed."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True)
class Input:
    """What the model is fed.

    Attributes:
        image_size: height and width in pixels.
        batch_size: of the global batch, over all workers.
        seed: of the order and of all random changes, 0 <= seed < 2**32.
        one_hot: labels as float32 [N, classes] and not as int64 [N]; mixup and CutMix always give these in training.
        evaluation_crop: side of the centre crop over the largest one that fits; None resizes the whole picture, which
            changes its aspect.
        augmentation: of training pictures.
    """

    image_size: tuple[int, int]
    batch_size: int
    seed: int = 0
    one_hot: bool = False
    evaluation_crop: float | None = decode.PUBLISHED_CROP
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ValueError(f"image_size is {self.image_size}; it is height and width in pixels, such as (224, 224).")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; allowed is 1 and above.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; allowed is 0 to 2**32 - 1.")
        if self.evaluation_crop is not None and not 0 < self.evaluation_crop <= 1:
            raise ValueError(f"evaluation_crop is {self.evaluation_crop}; allowed are 0 < side <= 1, and None.")
        if self.augmentation.reflect >= min(self.image_size):
            raise ValueError(
                f"augmentation.reflect is {self.augmentation.reflect}; pictures of {self.image_size} allow 0 to "
                f"{min(self.image_size) - 1}."
            )


def batches(
    split: Split,
    config: Input,
    *,
    training: bool,
    start_step: int = 0,
    steps: int | None = None,
    num_workers: int = 1,
    worker: int = 0,
) -> tf.data.Dataset:
    """Batches of normalised pictures and labels.

    In training, step s of a run sees the same pictures with the same changes wherever the run was started; every epoch
    has its own order, and the pictures that do not fill its last batch are left for other epochs. In evaluation every
    picture comes once, in order, and the last batch may be smaller.

    Args:
        split: the pictures; `verify` it first, since one that cannot be decoded ends the iteration with an error.
        config: sizes, seed and changes.
        training: shuffled, changed and without end, or in order, unchanged and once.
        start_step: first step, counted over the whole run; training only.
        steps: number of batches to give; None for all there are.
        num_workers: how many processes share each batch; `config.batch_size` is a multiple of it (in training with
            mixup or CutMix an even one).
        worker: which of them this is, from 0. In training the workers' batches, one behind the other, are the batch of
            a single worker; in evaluation worker w of n sees pictures w, w + n, ...

    Returns:
        A dataset of images, float32 [N, height, width, 3] in [-1, 1], and labels, int64 [N] or float32 [N, classes].

    Raises:
        ValueError: sizes that do not fit each other.

    Example:
        >>> from training import data
        >>> digits = data.load("digits")["train"]
        >>> images, labels = next(iter(data.batches(digits, data.Input((48, 48), 64), training=True)))
        >>> images.shape, labels.shape
        (TensorShape([64, 48, 48, 3]), TensorShape([64]))
    """
    place = {"start_step": start_step, "steps": steps, "num_workers": num_workers, "worker": worker}
    chosen = choose(split, config, training=training, **place)
    size = config.batch_size // num_workers
    dataset = _pictures(chosen, split, config, training, size)
    if training:
        dataset = tf.data.Dataset.zip(dataset, _steps(start_step, steps))
        change = lambda pictures, step: _change(*pictures, step, split, config, num_workers, worker)  # noqa: E731
    else:
        change = lambda images, labels: _finish(images, labels, split, config.one_hot)  # noqa: E731
    return in_order(dataset.map(change, num_parallel_calls=tf.data.AUTOTUNE))


def choose(
    split: Split,
    config: Input,
    *,
    training: bool,
    start_step: int = 0,
    steps: int | None = None,
    num_workers: int = 1,
    worker: int = 0,
) -> tf.data.Dataset:
    """Which pictures stand in each batch, and a seed for the random changes to each; the arguments of `batches`.

    Returns:
        A dataset of positions, int64 [N], and seeds, int64 [N, 2]; in evaluation all seeds are 0.
    """
    _check(split, config, training, start_step, num_workers, worker)
    if training:
        return _steps(start_step, steps).map(lambda step: _plan(step, split.count, config, num_workers, worker))
    size = config.batch_size // num_workers
    plan = tf.data.Dataset.range(worker, split.count, num_workers).batch(size).take(-1 if steps is None else steps)
    return plan.map(lambda indices: (indices, tf.zeros([tf.size(indices), 2], tf.int64)))


def one_by_one(
    read: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, Any]],
    split: Split,
    config: Input,
    *,
    training: bool,
    num_workers: int = 1,
    **place: int | None,
) -> tf.data.Dataset:
    """Batches of pictures whose labels change with them, so that each is read and changed by itself.

    Args:
        read: from a position and its seed to a picture of the final size, values 0 to 255, and its labels.
        split: the pictures.
        config: sizes and seed.
        training: as in `batches`.
        num_workers: as in `batches`.
        **place: the other arguments of `batches`.

    Returns:
        A dataset of images, float32 [N, height, width, 3] in [-1, 1], and labels.
    """
    chosen = choose(split, config, training=training, num_workers=num_workers, **place).unbatch()
    dataset = chosen.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(config.batch_size // num_workers, drop_remainder=training)
    return in_order(dataset.map(lambda images, labels: (preprocessing.preprocess_input(images), labels)))


def in_order(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements in the same order in every run, made ready ahead of their use."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # done by `worker`
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _check(split: Split, config: Input, training: bool, start_step: int, num_workers: int, worker: int) -> None:
    if not 0 <= worker < num_workers:
        raise ValueError(f"worker is {worker} of num_workers={num_workers}; allowed are 0 to {num_workers - 1}.")
    if config.batch_size % num_workers:
        raise ValueError(
            f"The global batch of {config.batch_size} cannot be shared by {num_workers} workers: give a multiple."
        )
    if start_step < 0 or (start_step and not training):
        raise ValueError(f"start_step is {start_step}; allowed is 0 and above in training, and 0 in evaluation.")
    if training:
        steps_per_epoch(split.count, config.batch_size)
        if config.augmentation.mixes and config.batch_size // num_workers % 2:
            raise ValueError(
                f"mixup and CutMix pair neighbours: a worker's part, {config.batch_size // num_workers}, must be even."
            )


def _steps(start: int, count: int | None) -> tf.data.Dataset:
    """`count` steps from `start` on, or all there are."""
    return tf.data.Dataset.range(start, 2**62 if count is None else start + count)


def _key(config: Input, purpose: int, step: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(config.seed + (purpose << 32), tf.int64), step])


def _plan(step: tf.Tensor, count: int, config: Input, num_workers: int, worker: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Positions of a step's pictures and a seed for each: a worker's part of those of the global batch."""
    seeds = tf.random.stateless_uniform([config.batch_size, 2], _key(config, PICTURE, step), None, None, tf.int64)
    indices = batch_indices(step, count, config.batch_size, config.seed)
    return own_part(indices, num_workers, worker), own_part(seeds, num_workers, worker)


def _pictures(plan: tf.data.Dataset, split: Split, config: Input, training: bool, size: int) -> tf.data.Dataset:
    """Batches of pictures at their final size, values 0 to 255, and labels; `plan` gives positions and seeds."""
    choose_box = _box_chooser(config, training)
    alone = training and config.augmentation.rand_augment > 0
    if split.decoded is not None and split.decoded.common_shape and not choose_box and not alone:
        return plan.map(lambda indices, _: _gather(split.decoded, indices, config), num_parallel_calls=tf.data.AUTOTUNE)

    def picture(source: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        box = choose_box and (lambda shape: choose_box(shape, seed))
        image = from_memory(split.decoded, source, box) if split.decoded else decode.decode(source, box)
        image = decode.resize(image, config.image_size)
        if alone:
            image = rand_augment(
                tf.cast(image, tf.float32), config.augmentation.rand_augment, config.augmentation.magnitude, seed + 1
            )
        return image, label

    if split.decoded is None:
        plan = plan.map(lambda indices, seeds: (*_read(split, indices), seeds), num_parallel_calls=tf.data.AUTOTUNE)
    else:
        plan = plan.map(lambda indices, seeds: (indices, tf.gather(split.decoded.labels, indices), seeds))
    return plan.unbatch().map(picture, num_parallel_calls=tf.data.AUTOTUNE).batch(size, drop_remainder=training)


def _box_chooser(config: Input, training: bool) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    """From a picture's shape and seed to the part of it that is used; None for all of it."""
    scale, crop = config.augmentation.crop_scale, config.evaluation_crop
    if training and scale is not None:
        return lambda shape, seed: decode.random_box(shape, scale, config.augmentation.crop_ratio, seed)
    if not training and crop is not None:
        return lambda shape, seed: decode.centre_box(shape, config.image_size, crop)
    return None


def _read(split: Split, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoded pictures, string [N], and labels, int64 [N]. One call of Python reads a batch."""

    def read(positions: list[int]) -> tuple[list[bytes], list[int]]:
        return tuple(zip(*(split.read(position) for position in positions), strict=True))

    contents, labels = tf.numpy_function(read, [indices], (tf.string, tf.int64), stateful=False)
    return tf.ensure_shape(contents, [None]), tf.ensure_shape(labels, [None])


def whole_picture(split: Split, index: tf.Tensor, contents: tf.Tensor) -> tf.Tensor:
    """A whole picture, uint8 [height, width, 3], from memory where the split is kept there."""
    return from_memory(split.decoded, index) if split.decoded else decode.decode(contents)


def from_memory(decoded: Decoded, index: tf.Tensor, choose_box: decode.BoxChooser | None = None) -> tf.Tensor:
    """A decoded picture, or a part of it, by its position: uint8 [height, width, 3]."""
    shape = decoded.shapes[index]
    values = decoded.values[decoded.offsets[index] : decoded.offsets[index + 1]]
    picture = tf.ensure_shape(tf.reshape(values, shape), [None, None, 3])
    return picture if choose_box is None else decode.crop(picture, choose_box(tf.cast(shape, tf.int32)))


def _gather(decoded: Decoded, indices: tf.Tensor, config: Input) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch of whole pictures of one shape."""
    images = tf.gather(tf.reshape(decoded.values, [-1, *decoded.common_shape]), indices)
    if decoded.common_shape[:2] != tuple(config.image_size):
        images = tf.cast(preprocessing.resize(images, config.image_size), tf.uint8)
    return images, tf.gather(decoded.labels, indices)


def _change(
    images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, split: Split, config: Input, num_workers: int, worker: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The changes that are made to a batch as a whole."""

    def chance(purpose: int) -> tf.Tensor:
        uniform = tf.random.stateless_uniform([config.batch_size, 3], _key(config, purpose, step))
        return own_part(uniform, num_workers, worker)

    def weight(alpha: float, purpose: int) -> tf.Tensor:
        return own_part(augment.beta(alpha, config.batch_size, -_key(config, purpose, step)), num_workers, worker)

    how = config.augmentation
    images = augment.flip_and_shift(images, chance(FLIP_AND_SHIFT), how.flip, how.reflect)
    if how.mixes:
        images, labels = tf.cast(images, tf.float32), tf.one_hot(labels, len(split.class_names))
    take_mixup = chance(MIXUP)[:, 0] < (0.5 if how.cutmix else 1.0)
    if how.mixup:
        images, labels = augment.mixup(images, labels, tf.where(take_mixup, weight(how.mixup, MIXUP), 1.0))
    if how.cutmix:
        own = tf.where(take_mixup & (how.mixup > 0), 1.0, weight(how.cutmix, CUTMIX))
        images, labels = augment.cutmix(images, labels, own, chance(CUTMIX)[:, :2])
    return _finish(images, labels, split, config.one_hot and not how.mixes)


def _finish(images: tf.Tensor, labels: tf.Tensor, split: Split, one_hot: bool) -> tuple[tf.Tensor, tf.Tensor]:
    images = preprocessing.preprocess_input(images)
    return images, tf.one_hot(labels, len(split.class_names)) if one_hot else labels
