"""What is wrong with the BUILD files and with the arrows between the modules, each in a line that says what to do."""

from collections.abc import Iterator
from pathlib import Path

from tests.build_files import build_file
from tests.build_files.modules import FOLDERS, Module, find_modules, resolve
from tests.build_files.targets import Target, dependencies, label, make_targets, requirement_names, third_party

# CONTRIBUTING.md, "The house": what the modules of a folder may import beside their own.
ARROWS = {
    "keras_mobilenet": {"keras_mobilenet"},
    "training": {"training", "keras_mobilenet"},
    "serving": {"serving", "keras_mobilenet"},
    "tests": set(FOLDERS),
}


def stale_build_files(root: Path) -> dict[Path, tuple[str, str]]:
    """The BUILD files that differ from what the imports ask for: their text now, and the text that they should have."""
    modules = find_modules(root)
    targets = make_targets(root, modules)
    folders: dict[Path, list[Target]] = {}
    for name, module in modules.items():
        folders.setdefault(module.path.parent, []).append(targets[name])
    for folder in FOLDERS:
        for path in (root / folder).rglob("BUILD"):
            folders.setdefault(path.parent.relative_to(root), [])
    stale = {}
    for folder, members in folders.items():
        path = root / folder / "BUILD"
        build = build_file.read(path)
        now = path.read_text(encoding="utf-8") if path.exists() else ""
        wanted = build_file.render(build, folder, members) if members or build.kept else ""
        if now != wanted:
            stale[path] = (now, wanted)
    return stale


def unpinned_imports(root: Path) -> list[str]:
    """The imports that no line of requirements.txt covers."""
    modules, pinned = find_modules(root), requirement_names(root)
    return [
        f"{module.path} imports {package}, which requirements.txt does not pin. Add it to an extra of pyproject.toml, "
        "then `make requirements`; where PyPI has another name for it, add that name to DISTRIBUTIONS in "
        "tests/build_files/targets.py."
        for module in modules.values()
        for package in sorted(third_party(module, modules) - pinned)
    ]


def wrong_arrows(root: Path) -> list[str]:
    """The imports that run against the arrows of the house."""
    modules = find_modules(root)
    return [
        f"{module.path} imports {other.name}, but {module.path.parts[0]} may import only "
        f"{', '.join(sorted(ARROWS[module.path.parts[0]]))}. Move what both need into keras_mobilenet."
        for module in modules.values()
        for other in _imported(module, modules)
        if other.path.parts[0] not in ARROWS[module.path.parts[0]]
    ]


def circles(root: Path) -> list[str]:
    """The circles among the dependencies, one line for each module that closes one."""
    modules = find_modules(root)
    graph = {name: sorted(dependencies(module, modules)) for name, module in modules.items()}
    done: set[str] = set()
    return [
        f"A circle: {' -> '.join(circle)}. Move what they share into a module of its own."
        for name in graph
        for circle in _circles_from(name, graph, [], done)
    ]


def misplaced_tests(root: Path) -> list[str]:
    """The tests in folders that mirror no folder of the checkout."""
    tests = [module.path for module in find_modules(root).values() if module.path.name.startswith("test_")]
    return [
        f"{path} mirrors {folder}/, which does not exist. Put the test where its module is, or into tests/ itself."
        for path in tests
        for folder in [Path(*path.parent.parts[1:])]
        if not (root / folder).is_dir()
    ]


def expected_labels(root: Path) -> set[str]:
    """The labels of all modules' targets."""
    modules = find_modules(root)
    return {label(module, modules) for module in modules.values()}


def _imported(module: Module, modules: dict[str, Module]) -> Iterator[Module]:
    for name in sorted(module.imports):
        other = resolve(name, modules)
        if other is not None and other is not module:
            yield other


def _circles_from(name: str, graph: dict[str, list[str]], trail: list[str], done: set[str]) -> Iterator[list[str]]:
    if name in trail:
        yield [*trail[trail.index(name) :], name]
    elif name not in done:
        for other in graph[name]:
            yield from _circles_from(other, graph, [*trail, name], done)
        done.add(name)
