"""py_test for files that pytest runs: a main program beside each hands the file to pytest."""

load("@rules_python//python:defs.bzl", _py_test = "py_test")

_MAIN = """import sys

import pytest

sys.exit(pytest.main(["-p", "no:cacheprovider", "{test}", *sys.argv[1:]]))
"""

def _pytest_main_impl(ctx):
    main = ctx.actions.declare_file(ctx.label.name + ".py")
    ctx.actions.write(main, _MAIN.format(test = ctx.file.test.short_path))
    return [DefaultInfo(files = depset([main]))]

_pytest_main = rule(
    implementation = _pytest_main_impl,
    attrs = {"test": attr.label(allow_single_file = [".py"])},
)

def py_test(name, srcs, data = [], deps = [], **kwargs):
    """A py_test whose one source file holds pytest tests; `bazel test --test_arg=-m --test_arg=slow` chooses slow ones."""
    main = name + "_main"
    _pytest_main(name = main, test = srcs[0], testonly = True)
    _py_test(
        name = name,
        srcs = srcs + [main],
        main = main + ".py",
        data = data + ["//:pyproject.toml"],
        deps = deps + [dep for dep in ["@pypi//pytest"] if dep not in deps],
        **kwargs
    )
