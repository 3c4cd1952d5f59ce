"""One Bazel target for each module: its rule, name, data and dependencies."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.build_files.modules import FOLDERS, Module, resolve

# Where PyPI's name is not the name that is imported. Keras runs on TensorFlow, and imports it only when it starts.
DISTRIBUTIONS = {
    "PIL": ("pillow",),
    "absl": ("absl-py",),
    "google.protobuf": ("protobuf",),
    "grpc": ("grpcio",),
    "grpc_health": ("grpcio-health-checking",),
    "keras": ("keras", "tensorflow"),
    "pytriton": (),  # it and the next: a peer of serving.benchmark, in an environment of its own
    "sklearn": ("scikit-learn",),
    "tensorflow_serving": ("tensorflow-serving-api",),
    "tritonclient": (),
    "yaml": ("pyyaml",),
}


@dataclass(frozen=True)
class Target:
    """What the BUILD file of the module's folder has to say about it."""

    rule: str
    name: str
    source: str
    data: tuple[str, ...]
    deps: tuple[str, ...]


def requirement_names(root: Path) -> frozenset[str]:
    """The packages that requirements.txt pins, spelled as in `@pypi//scikit_learn`."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(_label_name(line.partition("==")[0].strip()) for line in lines if "==" in line)


def make_targets(root: Path, modules: dict[str, Module]) -> dict[str, Target]:
    """A target for every module; the key is the dotted name."""
    return {name: _make_target(root, module, modules) for name, module in modules.items()}


def dependencies(module: Module, modules: dict[str, Module]) -> frozenset[str]:
    """The dotted names of the modules of the checkout that `module` needs beside itself."""
    needed = [resolve(name, modules) for name in module.imports]
    for name in module.runs:
        needed += [modules.get(name), modules.get(f"{name}.__main__")]
    found = {other for other in needed if other is not None}
    # Python imports the packages around a module first. Those that are a face of their own modules are left out (the
    # circle would be Bazel's, not Python's); training/__init__.py, which quiets TensorFlow, is not.
    for other in [module, *found]:
        packages = [modules[name] for name in other.packages if name in modules]
        found |= {package for package in packages if package.has_code and not _is_face(package, modules)}
    if module.path.name.startswith("test_"):
        found |= {other for other in modules.values() if _is_conftest_of(other, module)}
    return frozenset(other.name for other in found if other is not module)


def third_party(module: Module, modules: dict[str, Module]) -> frozenset[str]:
    """The PyPI packages that `module` imports, spelled as in `@pypi//scikit_learn`."""
    names = [name for name in module.imports if resolve(name, modules) is None]
    names = [name for name in names if name.split(".")[0] not in {*FOLDERS, *sys.stdlib_module_names}]
    return frozenset(_label_name(package) for name in names for package in _distributions(name))


def label(module: Module, modules: dict[str, Module]) -> str:
    """The full label of the module's target: `//keras_mobilenet:cost`."""
    return f"//{module.path.parent.as_posix()}:{_target_name(module, modules)}"


def _make_target(root: Path, module: Module, modules: dict[str, Module]) -> Target:
    ours = {_shortened(label(modules[name], modules), module.path.parent) for name in dependencies(module, modules)}
    pypi = {f"@pypi//{name}" for name in third_party(module, modules)}
    return Target(
        rule=_rule(module),
        name=_target_name(module, modules),
        source=module.path.name,
        data=tuple(sorted(_data(root, module))),
        deps=tuple(sorted(ours | pypi | module.included, key=_buildifier_order)),
    )


def _rule(module: Module) -> str:
    if module.path.name.startswith("test_"):
        return "py_test"
    return "py_binary" if module.is_program else "py_library"


def _target_name(module: Module, modules: dict[str, Module]) -> str:
    # The names that Gazelle gives: a package's is that of its folder, and its program's ends in _bin. Where a module of
    # the package has that name, the file's own.
    folder, stem = module.path.parent, module.path.stem
    name = {"__init__": folder.name, "__main__": f"{folder.name}_bin"}.get(stem, stem)
    taken = f"{'.'.join(folder.parts)}.{name}" in modules and name != stem
    return stem if taken else name


def _data(root: Path, module: Module) -> set[str]:
    folder = (root / module.path).parent
    wanted = {*module.strings, f"{module.path.stem}.pyi", *(["py.typed"] if module.is_package else [])}
    files = {file.name for file in folder.iterdir() if file.is_file() and file.suffix != ".py"}
    return (wanted & files) - {"BUILD"}


def _is_face(package: Module, modules: dict[str, Module]) -> bool:
    return any(
        other is not package and f"{other.name}.".startswith(f"{package.name}.")
        for other in (resolve(name, modules) for name in package.imports)
        if other is not None
    )


def _is_conftest_of(other: Module, test: Module) -> bool:
    return other.path.name == "conftest.py" and other.path.parent in test.path.parents


def _distributions(name: str) -> tuple[str, ...]:
    top, _, rest = name.partition(".")
    return DISTRIBUTIONS.get(f"{top}.{rest.partition('.')[0]}", DISTRIBUTIONS.get(top, (top,)))


def _label_name(package: str) -> str:
    return re.sub(r"[-_.]+", "_", package).lower()


def _shortened(full: str, folder: Path) -> str:
    path, _, name = full.removeprefix("//").partition(":")
    if path == folder.as_posix():
        return f":{name}"
    return f"//{path}" if path.rpartition("/")[2] == name else full


def _buildifier_order(dep: str) -> tuple[int, str]:
    return (":/@".index(dep[0]), dep.replace(":", "\0"))
