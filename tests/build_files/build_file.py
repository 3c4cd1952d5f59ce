"""A BUILD file: what is generated is written anew, what a hand added to it stays.

Generated are the rules `py_library`, `py_binary` and `py_test` with their `name`, `srcs`, `data` and `deps`, and the
load statements for them. Other attributes of a rule (`size`, `tags`, `visibility`, more `data`), other rules, and the
comments above a rule are kept as they are.
"""

import ast
from dataclasses import dataclass, field
from pathlib import Path

from tests.build_files.targets import Target

HEADER = "# `make build-files` keeps this file in step with the imports.\n"
LOADS = {
    "//tests/build_files:pytest.bzl": ("py_test",),
    "@rules_python//python:defs.bzl": ("py_binary", "py_library"),
}
GENERATED_RULES = ("py_binary", "py_library", "py_test")
FIRST, LAST = ("name", "size", "timeout", "srcs"), ("data", "deps", "visibility")


@dataclass(frozen=True)
class Rule:
    """A call in a BUILD file: its comment, its function and the source text of its arguments."""

    comment: str
    function: str
    attributes: dict[str, str]
    text: str

    @property
    def sources(self) -> list[str]:
        return list(ast.literal_eval(self.attributes.get("srcs", "[]")))


@dataclass
class BuildFile:
    """The statements of one BUILD file."""

    path: Path
    header: str = HEADER
    rules: list[Rule] = field(default_factory=list)

    @property
    def generated(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.function in GENERATED_RULES]

    @property
    def kept(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.function not in (*GENERATED_RULES, "package")]


def read(path: Path) -> BuildFile:
    """Reads a BUILD file, which is Python as far as the parser is concerned; one that is missing is empty."""
    if not path.exists():
        return BuildFile(path)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    build, end = BuildFile(path, header=""), 0
    for statement in ast.parse(text, str(path)).body:
        comment = "".join(lines[end : statement.lineno - 1]).strip("\n")
        end = statement.end_lineno or statement.lineno
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
            raise ValueError(
                f"{path}:{statement.lineno} is not a call of a rule; a BUILD file here holds nothing else."
            )
        rule = _rule(text, comment, statement.value)
        if not build.rules:
            build.header, rule = comment, Rule("", rule.function, rule.attributes, rule.text)
        build.rules.append(rule)
    build.header = f"{build.header}\n" if build.header else ""
    return build


def render(build: BuildFile, folder: Path, targets: list[Target]) -> str:
    """The text that the BUILD file of `folder` should have, for the targets of all its modules."""
    loads = _loads(targets) + [rule.text for rule in build.kept if rule.function == "load" and not _is_ours(rule)]
    package = next((rule.text for rule in build.rules if rule.function == "package"), _package(folder))
    others = [_with_comment(rule.comment, rule.text) for rule in build.kept if rule.function != "load"]
    old = {source: rule for rule in build.generated for source in rule.sources}
    stanzas = [stanza(target, old.get(target.source), build.path.parent) for target in targets]
    parts = ["\n".join(loads), package, *others, *stanzas]
    return build.header + "\n".join(f"{part}\n" for part in parts if part)


def stanza(target: Target, old: Rule | None, folder: Path) -> str:
    """The rule for one target, with what a hand added to its predecessor."""
    attributes = dict(old.attributes) if old else {}
    old_data = ast.literal_eval(attributes.get("data", "[]"))
    data_by_hand = {name for name in old_data if ":" in name or (folder / name).exists()}
    attributes |= {
        "name": f'"{target.name}"',
        "srcs": _list([target.source]),
        "data": _list(sorted({*target.data, *data_by_hand})),
        "deps": _list(target.deps),
    }
    middle = sorted(name for name in attributes if name not in FIRST + LAST)
    order = [name for name in (*FIRST, *middle, *LAST) if attributes.get(name, "[]") != "[]"]
    lines = [f"    {name} = {attributes[name]}," for name in order]
    return _with_comment(old.comment if old else "", "\n".join([f"{target.rule}(", *lines, ")"]))


def _rule(text: str, comment: str, call: ast.Call) -> Rule:
    attributes = {keyword.arg: ast.get_source_segment(text, keyword.value) for keyword in call.keywords if keyword.arg}
    return Rule(
        comment=comment,
        function=ast.unparse(call.func),
        attributes={name: value or "" for name, value in attributes.items()},
        text=ast.get_source_segment(text, call) or "",
    )


def _loads(targets: list[Target]) -> list[str]:
    rules = {target.rule for target in targets}
    loads = []
    for file, known in LOADS.items():
        names = "".join(f', "{name}"' for name in known if name in rules)
        loads += [f'load("{file}"{names})'] if names else []
    return loads


def _is_ours(load: Rule) -> bool:
    return any(f'"{file}"' in load.text for file in LOADS)


def _package(folder: Path) -> str:
    visibility = "//visibility:public" if folder.parts[0] == "keras_mobilenet" else "//:__subpackages__"
    return f'package(default_visibility = ["{visibility}"])'


def _with_comment(comment: str, text: str) -> str:
    return f"{comment}\n{text}" if comment else text


def _list(values: list[str] | tuple[str, ...]) -> str:
    if len(values) < 2:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"
    return "[\n" + "".join(f'        "{value}",\n' for value in values) + "    ]"
