import email
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
BASE = {"flatbuffers", "keras", "lazy-loader", "numpy", "tensorflow", "wrapt"}

# Importing anything of the packages named in argv fails in this program, as it does where they are not installed.
BARE_INSTALL = """
import json, sys

class NotInstalled:
    names = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
import numpy as np
import keras_mobilenet as km
for build in (km.MobileNetV1, km.MobileNetV2):
    model = build(input_shape=(32, 32, 3), alpha=0.25, classes=5)
    assert model(np.zeros((1, 32, 32, 3), "float32")).shape == (1, 5)
assert not NotInstalled.names & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout, so that an old build/ has no part in it."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    for folder in ("keras_mobilenet", "training", "serving", "tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(output)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
    (path,) = output.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def pins():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = re.compile(r"^([\w.-]+)==(\S+)")
    return {canonicalize_name(match[1]): match[2] for line in lines if (match := pinned.match(line))}


def declared():
    requirements = [Requirement(text) for group in (PROJECT["dependencies"], *EXTRAS.values()) for text in group]
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


def installed_with(names):
    """The packages that pip installs with `names`, by their names on PyPI."""
    found, waiting = set(), {canonicalize_name(name) for name in names}
    while waiting:
        name = waiting.pop()
        found.add(name)
        needed = [Requirement(text) for text in metadata.requires(name) or []]
        needed = [other for other in needed if other.marker is None or other.marker.evaluate({"extra": ""})]
        waiting |= {canonicalize_name(other.name) for other in needed} - found
    return found


class TestWheel:
    def test_holds_the_library_and_nothing_else(self, wheel):
        packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
        files = (ROOT / "keras_mobilenet").rglob("*")
        source = {path.relative_to(ROOT).as_posix() for path in files if path.is_file()}
        source = {name for name in source if "__pycache__" not in name and not name.endswith("/BUILD")}
        assert packaged == source
        assert {"keras_mobilenet/py.typed", "keras_mobilenet/__init__.pyi"} <= packaged
        assert any(name.endswith(".binpb") for name in packaged)

    def test_metadata(self, wheel):
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        message = email.message_from_bytes(wheel.read(name))
        requirements = [Requirement(text) for text in message.get_all("Requires-Dist")]
        assert {requirement.name for requirement in requirements if requirement.marker is None} == BASE
        assert set(message.get_all("Provides-Extra")) == {"optimization", "training", "serving", "batch", "dev"}
        assert message["License-Expression"] == "Apache-2.0"
        assert b"Apache License" in wheel.read(name.replace("METADATA", "licenses/LICENSE"))


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_pins_are_within_the_ranges(requirement):
    pinned = pins()
    assert canonicalize_name(requirement.name) in pinned, "run `make requirements`"
    assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), "run `make requirements`"


@pytest.mark.parametrize(
    ("package", "version"),
    [("tensorflow", "2.21."), ("keras", "3.15."), ("tensorflow-model-optimization", "0.8.1")],
)
def test_the_pins_are_what_was_tested(package, version):
    assert pins()[package].startswith(version)
    assert metadata.version(package) == pins()[package]


@pytest.mark.slow
def test_float_models_need_no_extra():
    base = installed_with(BASE)
    names = [
        name
        for name, packages in metadata.packages_distributions().items()
        if name != "keras_mobilenet" and not base & {canonicalize_name(package) for package in packages}
    ]
    assert {"tensorflow_model_optimization", "sklearn", "aiohttp", "tf_keras"} <= set(names)
    command = [sys.executable, "-c", BARE_INSTALL, json.dumps(names)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
