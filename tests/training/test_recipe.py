import dataclasses
import re
import shlex

import pytest

from training import recipe, run_folder
from training.recipe import Recipe


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_opens_with_what_is_needed_to_repeat_it(name):
    module = __import__(f"training.recipes.{name}", fromlist=["RECIPE"])
    assert recipe.load(name) == module.RECIPE
    parts = ("Source:", "Command:", "Machine, time:", "Expected:")
    source, command, machine, expected = (module.__doc__.find(part) for part in parts)
    assert 0 < source < command < machine < expected
    words = shlex.split(module.__doc__[command:machine].replace("\\\n", " "))
    flags = [word for word in words if word.startswith("--")]
    assert f"--recipe={name}" in flags
    fields = {field.name for field in dataclasses.fields(Recipe)} | {"recipe", "output_dir", "export_dir"}
    assert {re.match(r"--(\w+)", flag)[1] for flag in flags} <= fields


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match=r"There is no recipe 'mnist'.*digits"):
        recipe.load("mnist")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": "prune,float"}, "in this order"),
        ({"stages": ""}, "not some of float,prune,quantize"),
        ({"optimizer": "adam"}, "optimizer='adam' is not one of sgd, rmsprop, adamw"),
        ({"sparsity": 1.0}, "sparsity=1.0 is not a share"),
        ({"epochs": -1}, "epochs=-1 is not a number of epochs"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


def test_a_folder_belongs_to_one_recipe(tmp_path):
    first = Recipe(epochs=3)
    run_folder.claim(tmp_path / "run", first)
    run_folder.claim(tmp_path / "run", dataclasses.replace(first, checkpoint_seconds=1.0))
    with pytest.raises(ValueError, match=r"holds a run with epochs=3: give the same flags to go on"):
        run_folder.claim(tmp_path / "run", dataclasses.replace(first, epochs=4))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [run_folder.FILE]
