"""What MODULE.bazel downloads for later Bazels, made on this machine for Debian's 4.2.3 (the WORKSPACE file)."""

_DEFS = """py_binary, py_library, py_test = native.py_binary, native.py_library, native.py_test
"""

_PACKAGE = """py_library(name = "{name}", visibility = ["//visibility:public"])
"""

def _native_rules_python_impl(repository):
    repository.file("python/BUILD")
    repository.file("python/defs.bzl", _DEFS)

native_rules_python = repository_rule(
    implementation = _native_rules_python_impl,
    doc = "A rules_python that hands on Bazel's own Python rules.",
)

def _installed_packages_impl(repository):
    for line in repository.read(repository.attr.requirements).splitlines():
        name, pinned, _ = line.partition("==")
        if pinned:
            name = name.strip().lower().replace("-", "_").replace(".", "_")
            repository.file(name + "/BUILD", _PACKAGE.format(name = name))

installed_packages = repository_rule(
    implementation = _installed_packages_impl,
    attrs = {"requirements": attr.label(allow_single_file = True, mandatory = True)},
    doc = "An empty library for each pinned package: the Python on the PATH (.venv/bin) has them installed.",
)
