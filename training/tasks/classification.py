"""Classification: a class for each picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mobilenet.runtime import Predictor
from training import data, evaluation, losses, metrics, network
from training.cluster import Cluster
from training.recipe import Recipe
from training.tasks import classification_report
from training.tasks.task import Column


class Classification:
    """A softmax over the classes of a data set; `training.tasks.Task` says what each function does."""

    metric = "accuracy"
    counts: Mapping[str, losses.Count] = MappingProxyType({"training_accuracy": losses.hits})
    columns: Sequence[Column] = (Column("top-1", "accuracy"), Column("top-5", "top_5"))
    conversion: Mapping[str, Any] = MappingProxyType({})

    def load(self, *arguments: Any, **options: Any) -> data.Source:
        """As `data.load`."""
        return data.load(*arguments, **options)

    def input_config(self, recipe: Recipe) -> data.Input:
        """Size, crops and changes of the recipe."""
        return data.Input(
            image_size=(recipe.image_size, recipe.image_size),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            evaluation_crop=recipe.evaluation_crop or None,
            augmentation=data.Augmentation(
                crop_scale=(recipe.crop_min_area, 1.0) if recipe.crop_min_area else None,
                flip=recipe.flip,
                reflect=recipe.reflect,
                rand_augment=recipe.rand_augment,
                magnitude=recipe.magnitude,
                mixup=recipe.mixup,
                cutmix=recipe.cutmix,
            ),
        )

    def batches(self, split: data.Split, config: data.Input, *, training: bool, **options: int) -> tf.data.Dataset:
        """Labels are int64 [N], or float32 [N, classes] where pictures are mixed."""
        return data.batches(split, config, training=training, **options)

    def architecture(self, recipe: Recipe) -> str:
        """The network alone."""
        return recipe.model

    def build(self, recipe: Recipe, names: Sequence[str]) -> keras.Model:
        """The network with logits for the classes; another classifier in the weights file is left out."""
        shape = (recipe.image_size, recipe.image_size, 3)
        published = recipe.weights == "imagenet"
        model = network.BUILDERS[recipe.model](
            shape,
            alpha=recipe.alpha,
            weights=None if published else recipe.weights,
            classes=len(names),
            classifier_activation=None,
            dropout=recipe.dropout,
            batch_norm_momentum=recipe.batch_norm_momentum,
        )
        if published:
            backbone = network.BUILDERS[recipe.model](shape, alpha=recipe.alpha, weights="imagenet", include_top=False)
            for layer in backbone.layers:
                if layer.weights:
                    model.get_layer(layer.name).set_weights(layer.get_weights())
        return model

    def loss(self, recipe: Recipe, names: Sequence[str], model: keras.Model) -> losses.Loss:
        """Softmax cross-entropy, with what a teacher says where there is one."""
        del model
        loss = losses.cross_entropy(len(names), recipe.label_smoothing)
        if recipe.teacher is None:
            return loss
        return losses.distillation(loss, network.load(recipe.teacher), recipe.distillation, recipe.temperature)

    def validation(
        self, recipe: Recipe, split: data.Split, config: data.Input, model: keras.Model, cluster: Cluster
    ) -> metrics.Evaluate:
        """Each process evaluates its share of the pictures, and all get the figures of the whole."""
        del recipe, model
        share = {"num_workers": cluster.workers, "worker": cluster.worker}
        return lambda predict: metrics.evaluate(
            predict, self.batches(split, config, training=False, **share), cluster.total
        )

    def measure(
        self, predictor: Predictor, split: data.Split, config: data.Input, progress: bool = False
    ) -> evaluation.Evaluation:
        """Top-1 and top-5."""
        return evaluation.evaluate(predictor, split, config, progress)

    def agreement(self, one: Path, other: Path) -> dict[str, float]:
        """Share of the pictures that both take for the same class, 0 to 1."""
        said = [np.load(path)["predicted"] for path in (one, other)]
        return {"agreement": float(np.mean(said[0] == said[1]))}

    def sections(
        self, row: str, kept: Mapping[str, np.ndarray], split: data.Split, worst: int
    ) -> Iterator[tuple[str, str]]:
        """Confusion matrix and worst pictures."""
        yield classification_report.confusion(row, kept, split)
        yield classification_report.worst(row, kept, split, worst)


TASK = Classification()
