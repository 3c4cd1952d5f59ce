# `make help` says what is here. Every goal first puts the packages of requirements.txt into .venv, where they are not there yet.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint build-files requirements venv clean

VENV := .venv
RUN := $(VENV)/bin/python
# The tests of a file share fixtures that cost seconds to make, so a file stays on one core.
PYTEST := $(RUN) -m pytest -q --numprocesses=auto --dist=loadfile
# Written last: as long as it is missing or older than the pins, .venv is not complete.
STAMP := $(VENV)/.installed
# There while .venv is being filled: what a killed run leaves behind is made anew.
UNFINISHED := .venv.unfinished

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
    if $$python -c '$(SUPPORTED)' 2>/dev/null; then echo $$python; break; fi; done)

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "PYTHON=python3.12 before or after the goal chooses the Python for a new .venv (3.11 to 3.13)."

demo: venv ## train, export and serve a MobileNet on this machine, and classify a picture
	@$(RUN) -m training.demo

test: venv ## the quick tests, on all cores
	@$(PYTEST) --durations=10

test-slow: venv ## the slow tests: they train, start servers, or read all of the shared pictures; TESTS=FOLDER for some
	@$(PYTEST) -m slow --durations=20 $(TESTS)

lint: venv ## ruff (check and format) and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

build-files: venv ## write Bazel's BUILD files from the imports
	@$(RUN) -m tests.build_files --write

requirements: venv ## pin what pyproject.toml asks for; UPGRADE=1 takes the newest releases
	@$(RUN) -m uv pip compile pyproject.toml --all-extras --universal --python-version=3.11 --quiet \
	    --annotation-style=line --custom-compile-command="make requirements" $(if $(UPGRADE),--upgrade) \
	    --output-file=requirements.txt

clean: ## remove .venv and what tools left behind; savedmodels/ stays
	@rm -rf $(VENV) $(UNFINISHED) build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find keras_mobilenet training serving tests -name __pycache__ -prune -exec rm -rf {} +

venv: $(STAMP) ## the virtual environment in .venv

$(STAMP): requirements.txt pyproject.toml
	@if [ -e $(UNFINISHED) ] || ! $(RUN) -c '$(SUPPORTED)' 2>/dev/null || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
	    $(MAKE) --no-print-directory new-venv; \
	fi
	@touch $(UNFINISHED); rm -f $(STAMP)
	@echo "Installing the packages of requirements.txt into $(VENV) (about 3 GB, some minutes the first time)"
	@$(RUN) -m pip install --disable-pip-version-check --no-deps --no-compile --progress-bar=off -r requirements.txt | \
	    awk '/^(Collecting|Processing)/ {printf "."; fflush()} /^Installing/ {printf " unpacking"; fflush()} END {print ""}'
	@$(RUN) -m pip check --quiet
	@$(RUN) -m pip install --disable-pip-version-check --no-deps --no-build-isolation --quiet --editable .
	@touch $(STAMP); rm -f $(UNFINISHED)

.PHONY: new-venv
new-venv:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null; then \
	    echo "keras_mobilenet needs Python 3.11, 3.12 or 3.13; $(if $(PYTHON),PYTHON=$(PYTHON) is none of them,none is on the PATH)." \
	        "On Debian: apt-get install python3 python3-venv. One that lies elsewhere: make PYTHON=/path/to/python3.12 ..." >&2; \
	    exit 1; \
	fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$(PYTHON) cannot make a virtual environment. On Debian: apt-get install python3-venv." >&2; exit 1; \
	fi
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV); touch $(UNFINISHED); $(PYTHON) -m venv $(VENV)
