"""Optimizers and learning rates of the papers and of today."""

import keras

from training.recipe import Recipe

POLY_POWER = 0.9  # arXiv:1706.05587, section 4.1


def build(
    recipe: Recipe,
    model: keras.Model,
    *,
    learning_rate: float,
    steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
) -> keras.Optimizer:
    """The optimizer of a stage.

    Args:
        recipe: Kind, momentum, schedule, weight decay, moving average, precision.
        model: Whose weights it trains; decides which of them decay.
        learning_rate: Highest learning rate.
        steps: Steps of the stage.
        steps_per_epoch: Steps in an epoch.
        warmup_epochs: Epochs in which the learning rate rises from 0.

    Returns:
        A built Keras optimizer.

    Source: RMSprop as in arXiv:1704.04861, section 3.1 (little or no weight decay on depthwise filters), and
    arXiv:1801.04381, section 6.1 (0.9, 0.9).
    """
    options = {
        "learning_rate": _schedule(recipe, learning_rate, steps, steps_per_epoch, warmup_epochs),
        "weight_decay": recipe.weight_decay or None,
        "use_ema": recipe.ema > 0,
        "ema_momentum": recipe.ema or 0.99,
    }
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=recipe.momentum, **options)
    elif recipe.optimizer == "rmsprop":
        # The published checkpoints were trained with an epsilon of 1, which Keras's default of 1e-7 is far from.
        optimizer = keras.optimizers.RMSprop(rho=0.9, momentum=recipe.momentum, epsilon=1.0, **options)
    else:
        optimizer = keras.optimizers.AdamW(**options | {"weight_decay": recipe.weight_decay})  # Keras takes no None
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_list=without_decay(model))
    if keras.config.dtype_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def without_decay(model: keras.Model) -> list[keras.Variable]:
    """The trainable variables that weight decay leaves alone: all but the kernels of convolutions and dense layers."""
    kernels = {
        id(layer.kernel) for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    }
    return [variable for variable in model.trainable_variables if id(variable) not in kernels]


def _schedule(
    recipe: Recipe, highest: float, steps: int, steps_per_epoch: int, warmup_epochs: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    warmup = round(warmup_epochs * steps_per_epoch)
    if warmup and warmup >= steps:
        raise ValueError(
            f"warmup_epochs={warmup_epochs} takes {warmup} steps, but the stage has {steps}: train longer or "
            "warm up less."
        )
    if recipe.schedule == "poly":
        if warmup:
            raise ValueError(f"schedule='poly' has no warm-up: leave out warmup_epochs={warmup_epochs}.")
        return keras.optimizers.schedules.PolynomialDecay(highest, max(steps, 1), 0.0, power=POLY_POWER)
    if recipe.schedule == "cosine":
        if warmup:
            return keras.optimizers.schedules.CosineDecay(
                0.0, steps - warmup, warmup_target=highest, warmup_steps=warmup
            )
        return keras.optimizers.schedules.CosineDecay(highest, max(steps, 1))
    return WarmedUpDecay(highest, round(recipe.decay_epochs * steps_per_epoch), recipe.decay_rate, warmup)


@keras.saving.register_keras_serializable(package="keras_mobilenet_training")
class WarmedUpDecay(keras.optimizers.schedules.ExponentialDecay):
    """Exponential decay in stairs, behind a linear rise from 0.

    Args:
        initial_learning_rate: Learning rate at the end of the rise.
        decay_steps: Steps from one stair to the next.
        decay_rate: Factor between two stairs.
        warmup_steps: Steps of the rise.
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, warmup_steps: int = 0
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase=True)
        self.warmup_steps = warmup_steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:  # noqa: D102
        rise = keras.ops.minimum(1.0, (keras.ops.cast(step, "float32") + 1) / max(self.warmup_steps, 1))
        return super().__call__(step) * (rise if self.warmup_steps else 1.0)

    def get_config(self) -> dict:  # noqa: D102
        config = super().get_config() | {"warmup_steps": self.warmup_steps}
        return {k: config[k] for k in ("initial_learning_rate", "decay_steps", "decay_rate", "warmup_steps")}
