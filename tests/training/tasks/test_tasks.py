import inspect

import pytest

from training import recipe, tasks


@pytest.mark.parametrize("name", recipe.TASKS)
def test_a_task_has_all_that_is_asked_of_it(name):
    task = tasks.get(name)
    attributes = [name for name in tasks.Task.__annotations__ if not hasattr(task, name)]
    assert attributes == []
    functions = {
        name: value for name, value in vars(tasks.Task).items() if inspect.isfunction(value) and name[0] != "_"
    }
    assert len(functions) > 5
    for function, asked in functions.items():
        own = inspect.signature(getattr(task, function)).parameters
        assert list(own)[:2] == list(inspect.signature(asked).parameters)[1:3] or function == "load", function
