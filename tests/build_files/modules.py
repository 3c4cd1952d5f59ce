"""The Python modules of the checkout and what each of them imports, read from the source without running it."""

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("keras_mobilenet", "training", "serving", "tests")
# Gazelle's annotation for what no import statement shows: `# gazelle:include_dep //keras_mobilenet:cost`.
INCLUDE_DEP = re.compile(r"^\s*# gazelle:include_dep (\S+)$", re.MULTILINE)
LOADERS = {"import_module", "importorskip"}


@dataclass(frozen=True)
class Module:
    """One .py file.

    Attributes:
        name: Dotted name; a package's is that of its folder.
        path: Relative to the root of the checkout.
        imports: Dotted names as the source has them, made absolute; `from a import b` gives `a.b`.
        runs: Modules that it starts with `python -m`.
        included: Bazel labels from its `gazelle:include_dep` comments.
        strings: String constants, among them names of files that it opens.
        is_program: Whether it has a `__name__ == "__main__"` block, or is a `__main__.py`.
        has_code: Whether importing it does anything.
    """

    name: str
    path: Path
    imports: frozenset[str]
    runs: frozenset[str]
    included: frozenset[str]
    strings: frozenset[str]
    is_program: bool
    has_code: bool

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def packages(self) -> list[str]:
        """The packages that Python imports before this module, outermost first."""
        parts = self.name.split(".")
        return [".".join(parts[:length]) for length in range(1, len(parts))]


def find_modules(root: Path) -> dict[str, Module]:
    """Reads every .py file of the four folders; the key is the dotted name."""
    paths = (path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    modules = (read_module(root, path.relative_to(root)) for path in paths if "__pycache__" not in path.parts)
    return {module.name: module for module in sorted(modules, key=lambda module: module.name)}


def read_module(root: Path, path: Path) -> Module:
    stub = (root / path).with_suffix(".pyi")
    stub_source = stub.read_text(encoding="utf-8") if stub.exists() else ""
    return parse_module(path, (root / path).read_text(encoding="utf-8"), stub_source)


@functools.cache
def parse_module(path: Path, source: str, stub_source: str) -> Module:
    """The module with that text; what its stub imports, lazy_loader imports for it."""
    tree = ast.parse(source, str(path))
    package = ".".join(path.parent.parts)
    imports = {*_imports(tree, package), *_imports(ast.parse(stub_source), package)}
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    quiet_statements = (ast.Expr, ast.Import, ast.ImportFrom)
    return Module(
        name=package if path.name == "__init__.py" else f"{package}.{path.stem}",
        path=path,
        imports=frozenset(imports),
        runs=frozenset(_runs(tree)),
        included=frozenset(INCLUDE_DEP.findall(source)),
        strings=frozenset(value for value in constants if isinstance(value, str)),
        is_program=path.name == "__main__.py" or any(_is_main_block(node) for node in tree.body),
        has_code=bool(imports) or any(not isinstance(node, quiet_statements) for node in tree.body),
    )


def resolve(name: str, modules: dict[str, Module]) -> Module | None:
    """The module of the checkout that the dotted `name` lies in, or None for somebody else's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return modules.get(name)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            yield from (base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            if function in LOADERS and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def _runs(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            words = [getattr(element, "value", None) for element in node.elts]
            yield from (str(word) for flag, word in itertools.pairwise(words) if flag == "-m")


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) and "__main__" in ast.unparse(node.test)
