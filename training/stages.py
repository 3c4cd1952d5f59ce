"""Float training, pruning and quantization-aware training, one behind the other on the same model."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

import keras_mobilenet as km
from training import data, network, optimizers, tasks
from training.checkpoints import Checkpoints
from training.cluster import Cluster
from training.history import History
from training.loop import Plan, Trainer
from training.metrics import Evaluate
from training.pictures import Pictures
from training.recipe import Recipe

MODEL_FILE = "model.keras"


@dataclass(frozen=True)
class Stage:
    """What distinguishes one stage from another.

    Args:
        name: "float", "prune" or "quantize".
        epochs: Epochs of training.
        learning_rate: Highest learning rate.
        prepare: From the model before and the number of steps to the model that is trained.
    """

    name: str
    epochs: int
    learning_rate: float
    prepare: Callable[[keras.Model | None, int], keras.Model]


def stages(recipe: Recipe, pictures: Pictures) -> list[Stage]:
    """The stages that a recipe names, in their order."""

    def prune(model: keras.Model | None, steps: int) -> keras.Model:
        end = max(1, round(recipe.prune_ramp * steps))
        # tfmot's schedule prunes at multiples of the frequency up to `end`: with ten of them or more the last one
        # comes within 0.1 % of the sparsity that was asked for.
        frequency = min(recipe.prune_frequency, max(1, end // 10))
        schedule = km.PolynomialDecay(0.0, recipe.sparsity, 0, end, frequency=frequency)
        return km.prune(model or built(recipe, pictures), schedule, allocation=recipe.prune_allocation)

    def quantize(model: keras.Model | None, steps: int) -> keras.Model:
        aware = km.quantize_aware(model or built(recipe, pictures), freeze_after=round(recipe.quantize_freeze * steps))
        km.calibrate(aware, calibration_batches(recipe, pictures.train))
        return aware

    known = {
        "float": Stage("float", recipe.epochs, recipe.learning_rate, lambda model, steps: built(recipe, pictures)),
        "prune": Stage("prune", recipe.prune_epochs, recipe.prune_learning_rate, prune),
        "quantize": Stage("quantize", recipe.quantize_epochs, recipe.quantize_learning_rate, quantize),
    }
    return [known[name] for name in recipe.stage_names]


def built(recipe: Recipe, pictures: Pictures) -> keras.Model:
    """The network of a recipe, as its training starts."""
    model = tasks.get(recipe.task).build(recipe, pictures.class_names)
    if recipe.freeze_batch_norm:
        network.freeze_batch_norm(model)
    return model


def run(recipe: Recipe, pictures: Pictures, output_dir: Path, cluster: Cluster) -> dict[str, Path]:
    """Runs the stages that are not done yet; a run that was killed goes on where its last checkpoint is.

    Every stage starts from the file of the one before, also where both run in one go: a model is then the same one,
    however often the run was killed.

    Args:
        recipe: What to do.
        pictures: On which pictures.
        output_dir: Each stage has a folder there.
        cluster: On which devices.

    Returns:
        Stage -> its finished model, a `.keras` file.
    """
    if recipe.early_stop and pictures.validation is None:
        raise ValueError(f"early_stop={recipe.early_stop} looks at a validation split: give --validation_share, or 0.")
    finished: dict[str, Path] = {}
    previous: Path | None = None
    for stage in stages(recipe, pictures):
        folder = output_dir / stage.name
        path = folder / MODEL_FILE
        if path.exists():
            logging.info("Stage %s is done: %s", stage.name, path)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            train(stage, previous, recipe, pictures, folder, cluster)
        finished[stage.name] = previous = path
    return finished


def train(
    stage: Stage, previous: Path | None, recipe: Recipe, pictures: Pictures, folder: Path, cluster: Cluster
) -> None:
    """Trains a stage from the model file of the one before, and publishes its own.

    Killed and called again, it goes on from its last checkpoint.

    Args:
        stage: What to train.
        previous: Model file that the stage starts from, or None.
        recipe: Task and optimisation; the stage says how long, and at which learning rate.
        pictures: On which pictures.
        folder: Of this stage.
        cluster: On which devices.
    """
    task = tasks.get(recipe.task)
    keras.backend.clear_session()
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision if stage.name == "float" else "float32")
    steps_per_epoch = data.steps_per_epoch(pictures.train.count, recipe.batch_size)
    steps = stage.epochs * steps_per_epoch
    with cluster.strategy.scope():
        model = stage.prepare(network.load(previous) if previous else None, steps)
        warmup_epochs = recipe.warmup_epochs if stage.name == "float" else 0.0
        lengths = {"steps": steps, "steps_per_epoch": steps_per_epoch, "warmup_epochs": warmup_epochs}
        optimizer = optimizers.build(recipe, model, learning_rate=stage.learning_rate, **lengths)
    loss = task.loss(recipe, pictures.class_names, model)
    trainer = Trainer(model, optimizer, loss, cluster.strategy, task.counts)
    checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, write=cluster.chief, sums=len(trainer.figures))
    config = task.input_config(recipe)
    batches = functools.partial(task.batches, pictures.train, config, training=True)
    trainer.train(
        lambda step: cluster.distribute(functools.partial(batches, start_step=step), recipe.batch_size),
        Plan(
            epochs=stage.epochs,
            steps_per_epoch=steps_per_epoch,
            batch_size=recipe.batch_size,
            checkpoint_seconds=recipe.checkpoint_seconds,
            early_stop=recipe.early_stop,
            metric=task.metric,
            evaluate_every=recipe.validate_every,
        ),
        checkpoints=checkpoints,
        history=History(folder, write=cluster.chief),
        evaluate=_validation(recipe, pictures.validation, model, cluster),
        label=stage.name,
        quiet=not cluster.chief,
        first_step=cluster.agree(checkpoints.newest()),
    )
    trainer.take_average()
    cluster.check_equal(model.variables)
    if keras.config.dtype_policy().name != "float32":
        again = functools.partial(built, dataclasses.replace(recipe, weights=None), pictures)
        cluster.publish(lambda path: network.in_float32(model, again).save(path), folder / MODEL_FILE)
    else:
        cluster.publish(model.save, folder / MODEL_FILE)


def calibration_batches(recipe: Recipe, train: data.Split) -> tf.data.Dataset:
    """Batches of images, as evaluation sees them, that the first ranges are taken from."""
    steps = max(1, recipe.calibration_pictures // recipe.batch_size)
    first = train.select(_spread(train.count, steps * recipe.batch_size))
    task = tasks.get(recipe.task)
    return task.batches(first, task.input_config(recipe), training=False).map(lambda images, labels: images)


def _spread(count: int, wanted: int) -> list[int]:
    """Positions spread over a split, whose pictures may lie class by class."""
    return [round(i * count / wanted) for i in range(wanted)] if wanted < count else list(range(count))


def _validation(recipe: Recipe, split: data.Split | None, model: keras.Model, cluster: Cluster) -> Evaluate | None:
    if split is None:
        return None
    task = tasks.get(recipe.task)
    return task.validation(recipe, split, task.input_config(recipe), model, cluster)
