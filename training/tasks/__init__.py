"""What a network is trained for; each task is a module here, and everything that depends on it stands behind `Task`.

A new task is a module with a `TASK`, and its name in `training.recipe.TASKS`.
"""

import importlib

from training.tasks.task import Said, Task

__all__ = ["Said", "Task", "get"]


def get(name: str) -> Task:
    """The task of a recipe.

    Args:
        name: Of a module in `training/tasks`, as in `Recipe.task`.
    """
    task: Task = importlib.import_module(f"training.tasks.{name}").TASK
    return task
