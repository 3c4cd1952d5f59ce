"""The pictures of a run."""

from dataclasses import dataclass
from pathlib import Path

from training import data, tasks
from training.recipe import Recipe


@dataclass(frozen=True)
class Pictures:
    """The verified splits of a run.

    Args:
        train: Training pictures.
        validation: Pictures that early stopping looks at, or None.
        test: Pictures of the last figure.
    """

    train: data.Split
    validation: data.Split | None
    test: data.Split

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.train.class_names


def open_splits(recipe: Recipe, output_dir: Path, worker: int = 0) -> Pictures:
    """Loads and verifies the splits of a recipe.

    Args:
        recipe: Which pictures.
        output_dir: What was found unreadable is noted there, so that it is not looked for again.
        worker: Number of this process in its cluster; each notes for itself.

    Raises:
        ValueError: There is nothing to evaluate on, too much is unreadable, or the flags don't fit the data set.
    """
    patterns = {"train": recipe.train_files, "validation": recipe.validation_files, "test": recipe.test_files}
    source = tasks.get(recipe.task).load(
        recipe.dataset,
        recipe.data_dir,
        patterns={split: pattern for split, pattern in patterns.items() if pattern} or None,
        labels_file=recipe.labels_file,
        validation_share=recipe.validation_share,
    )

    def verified(split: str) -> data.Split:
        record = output_dir / f"pictures_{split}{worker or ''}.json"
        return data.verify(source[split], recipe.max_bad_share, cache=recipe.cache, record=record)[0]

    validation = verified("validation") if "validation" in source.splits else None
    test = verified("test") if "test" in source.splits else validation
    if test is None:
        raise ValueError(
            f"{source.name} has neither a test nor a validation split: name the files of one, or give "
            "--validation_share."
        )
    return Pictures(verified("train"), validation, test)
