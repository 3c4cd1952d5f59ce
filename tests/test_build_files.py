import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from tests.build_files import checks

ROOT = Path(__file__).parents[1]
RULES_PYTHON = "py_binary, py_library, py_test = native.py_binary, native.py_library, native.py_test\n"


def test_the_build_files_say_what_the_imports_say():
    stale = checks.stale_build_files(ROOT)
    wanted = [f"{path.relative_to(ROOT)} should be:\n{text}" for path, (_, text) in stale.items()]
    assert not stale, "Run `make build-files`, or paste:\n" + "\n".join(wanted)


@pytest.mark.parametrize(
    "check", [checks.unpinned_imports, checks.wrong_arrows, checks.circles, checks.misplaced_tests]
)
def test_the_arrows_between_the_modules(check):
    assert check(ROOT) == []


class TestWhatIsWritten:
    """The BUILD files of a small checkout, and what is found in a wrong one."""

    @pytest.fixture
    def root(self, tmp_path):
        for folder in ("keras_mobilenet", "training", "serving", "tests/keras_mobilenet"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "requirements.txt").write_text(
            "# pins\nabsl-py==1.4.0  # via x\nkeras==3.15.1\ntensorflow==2.21.0\n"
        )
        (tmp_path / "keras_mobilenet/layers.py").write_text("import keras\n")
        (tmp_path / "keras_mobilenet/cost.py").write_text("from .layers import Scale\nTABLE = 'table.binpb'\n")
        (tmp_path / "keras_mobilenet/table.binpb").write_bytes(b"")
        return tmp_path

    def write(self, root):
        for path, (_, text) in checks.stale_build_files(root).items():
            path.write_text(text)
        assert checks.stale_build_files(root) == {}

    def test_one_target_a_module(self, root):
        self.write(root)
        assert (root / "keras_mobilenet/BUILD").read_text() == (
            "# `make build-files` keeps this file in step with the imports.\n"
            'load("@rules_python//python:defs.bzl", "py_library")\n\n'
            'package(default_visibility = ["//visibility:public"])\n\n'
            'py_library(\n    name = "cost",\n    srcs = ["cost.py"],\n    data = ["table.binpb"],\n'
            '    deps = [":layers"],\n)\n\n'
            'py_library(\n    name = "layers",\n    srcs = ["layers.py"],\n'
            '    deps = [\n        "@pypi//keras",\n        "@pypi//tensorflow",\n    ],\n)\n'
        )

    def test_programs_tests_and_packages(self, root):
        (root / "training/__init__.py").write_text("import os\nos.environ.setdefault('A', '1')\n")
        (root / "training/train.py").write_text(
            "from absl import app\nif __name__ == '__main__':\n    app.run(print)\n"
        )
        (root / "tests/conftest.py").write_text("")
        (root / "tests/keras_mobilenet/test_cost.py").write_text(
            "# gazelle:include_dep //keras_mobilenet:layers\nRUN = ['python', '-m', 'training.train']\n"
        )
        self.write(root)
        training = (root / "training/BUILD").read_text()
        assert 'py_library(\n    name = "training",\n    srcs = ["__init__.py"],\n)' in training
        assert (
            'py_binary(\n    name = "train",\n    srcs = ["train.py"],\n    deps = [\n        ":training",' in training
        )
        assert (
            (root / "tests/keras_mobilenet/BUILD")
            .read_text()
            .endswith(
                'py_test(\n    name = "test_cost",\n    srcs = ["test_cost.py"],\n    deps = [\n'
                '        "//keras_mobilenet:layers",\n        "//tests:conftest",\n        "//training",\n'
                '        "//training:train",\n    ],\n)\n'
            )
        )

    def test_a_module_named_as_its_package(self, root):
        (root / "serving/server").mkdir()
        (root / "serving/server/__init__.py").write_text("")
        (root / "serving/server/server.py").write_text("")
        (root / "serving/client.py").write_text("import serving.server\nfrom serving.server import server\n")
        self.write(root)
        assert (
            (root / "serving/BUILD")
            .read_text()
            .endswith('    deps = [\n        "//serving/server",\n        "//serving/server:__init__",\n    ],\n)\n')
        )

    def test_the_face_depends_on_what_its_stub_lists(self, root):
        (root / "keras_mobilenet/__init__.py").write_text("import lazy_loader\n")
        (root / "keras_mobilenet/__init__.pyi").write_text("from . import cost as cost\n")
        self.write(root)
        build = (root / "keras_mobilenet/BUILD").read_text()
        face = '    srcs = ["__init__.py"],\n    data = ["__init__.pyi"],\n    deps = [\n        ":cost",\n'
        assert face in build
        assert '":keras_mobilenet"' not in build

    def test_what_a_hand_added_stays(self, root):
        self.write(root)
        path = root / "keras_mobilenet/BUILD"
        text = path.read_text().replace(
            '    srcs = ["cost.py"],\n', '    srcs = ["cost.py"],\n    tags = ["a", "b"],\n'
        )
        text = text.replace('py_library(\n    name = "layers"', '# Why.\npy_library(\n    name = "layers"')
        text += '\n# Read by a test.\nfilegroup(\n    name = "tables",\n    srcs = glob(["*.binpb"]),\n)\n'
        path.write_text(text.replace('":layers"', '":gone"'))
        self.write(root)
        new = path.read_text()
        assert 'tags = ["a", "b"]' in new
        assert "# Why.\npy_library(\n" in new
        assert '# Read by a test.\nfilegroup(\n    name = "tables",\n    srcs = glob(["*.binpb"]),\n)\n' in new
        assert ":gone" not in new

    @pytest.mark.parametrize(
        ("source", "is_stale"),
        [
            ("import keras\nimport numpy\n", True),
            ("import keras\nfrom keras_mobilenet.cost import TABLE\n", True),
            ("", True),
            ("def load():\n    import keras\n", False),
        ],
        ids=["third party not in deps", "module not in deps", "dep without import", "import in a function"],
    )
    def test_an_edit_of_the_imports_is_noticed(self, root, source, is_stale):
        self.write(root)
        (root / "keras_mobilenet/layers.py").write_text(source)
        assert bool(checks.stale_build_files(root)) == is_stale

    def test_a_module_without_a_target_and_a_target_without_a_module_are_noticed(self, root):
        self.write(root)
        (root / "keras_mobilenet/new.py").write_text("")
        assert checks.stale_build_files(root)
        (root / "keras_mobilenet/new.py").unlink()
        (root / "keras_mobilenet/cost.py").unlink()
        assert checks.stale_build_files(root)

    def test_wrong_arrows(self, root):
        (root / "keras_mobilenet/cost.py").write_text("import training.train\n")
        (root / "training/train.py").write_text("from serving import client\n")
        (root / "serving/client.py").write_text("from keras_mobilenet import layers\n")
        first, second = checks.wrong_arrows(root)
        assert first.startswith("keras_mobilenet/cost.py imports training.train, but keras_mobilenet may import only")
        assert second.startswith("training/train.py imports serving.client, but training may import only")

    def test_a_circle(self, root):
        assert checks.circles(root) == []
        (root / "keras_mobilenet/layers.py").write_text("def late():\n    from keras_mobilenet import cost\n")
        (circle,) = checks.circles(root)
        assert "keras_mobilenet.cost -> keras_mobilenet.layers -> keras_mobilenet.cost" in circle

    def test_an_import_that_is_not_pinned(self, root):
        (root / "keras_mobilenet/cost.py").write_text("import os\nfrom absl import flags\nimport sklearn.datasets\n")
        (unpinned,) = checks.unpinned_imports(root)
        assert unpinned.startswith("keras_mobilenet/cost.py imports scikit_learn, which requirements.txt does not pin.")

    def test_a_misplaced_test(self, root):
        (root / "tests/cost").mkdir()
        (root / "tests/cost/test_cost.py").write_text("")
        (misplaced,) = checks.misplaced_tests(root)
        assert misplaced.startswith("tests/cost/test_cost.py mirrors cost/, which does not exist.")


@pytest.fixture(scope="module")
def query(tmp_path_factory):
    """Runs `bazel query` without a network, in a server of its own that ends with the tests."""
    stub = tmp_path_factory.mktemp("rules_python")
    (stub / "python").mkdir()
    for name, text in {"WORKSPACE": "", "python/BUILD": "", "python/defs.bzl": RULES_PYTHON}.items():
        (stub / name).write_text(text)
    bazel = ["bazel", f"--output_user_root={tmp_path_factory.mktemp('bazel')}", "--max_idle_secs=60"]

    def run(expression, *flags):
        command = [
            *bazel,
            "query",
            expression,
            "--noshow_progress",
            f"--override_repository=rules_python={stub}",
            *flags,
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    yield run
    subprocess.run([*bazel, "shutdown"], cwd=ROOT, capture_output=True, timeout=60, check=True)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("bazel") is None, reason="no bazel on the PATH (Debian: apt-get install bazel-bootstrap)"
)
class TestBazel:
    """Bazel's own reading of the BUILD files."""

    def test_every_target_loads(self, query):
        result = query("//...")
        assert result.returncode == 0, result.stderr
        assert not [line for line in result.stderr.splitlines() if line.startswith(("ERROR", "WARNING"))]
        assert checks.expected_labels(ROOT) <= set(result.stdout.split())

    def test_every_dependency_exists(self, query):
        result = query("labels(deps, //...) union labels(srcs, //...) union labels(data, //...)")
        assert result.returncode == 0, result.stderr

    def test_every_module_is_in_exactly_one_target(self, query):
        result = query('kind("py_(library|binary|test) rule", //...)', "--output=xml")
        assert result.returncode == 0, result.stderr
        rules = ElementTree.fromstring(result.stdout)
        sources = Counter(
            source.get("value").removeprefix("//").replace(":", "/")
            for source in rules.iterfind("rule/list[@name='srcs']/label")
            if not source.get("value").endswith("_main")  # written by pytest.bzl, no file of the checkout
        )
        modules = {module.path.as_posix() for module in checks.find_modules(ROOT).values()}
        assert sources == Counter(modules)
