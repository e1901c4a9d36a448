# Each target builds the environment that it needs by itself; PYTHON names the interpreter (≥ 3.11).
PYTHON ?= python3
NEWEST_PYTHON ?= $(shell .ci/newest-python)
BIN := .venv/bin
NEWEST := .venv-newest/bin
PIP := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP) -c constraints.txt

# Tests start many programs, which read what the first has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-all test-newest lint docs clean

# Trains a small model on letters of many scripts and shows it adapting.
demo: .venv/demo-ready
	rm -rf runs/demo
	$(BIN)/maml-jax train --recipe quickstart --out runs/demo
	$(BIN)/maml-jax evaluate runs/demo --tasks 500
	@echo
	@echo "Look at runs/demo/episode.png: one task, before and after adaptation."

# What every change must pass.
test: lint
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow"

# The tests that are slow for a reason that they state.
test-slow: .venv/test-ready
	$(BIN)/pytest -n 2 --dist loadgroup -m slow

test-all: test
	$(MAKE) test-slow

# The tests with the newest Python on this machine and the newest of every dependency.
test-newest: .venv-newest/ready
	$(NEWEST)/python -c "import sys, jax; print('Python', sys.version.split()[0], 'with JAX', jax.__version__)"
	$(NEWEST)/pytest -n 2 --dist loadgroup -m "not slow"

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/: a link without a target is an error, and so is one in an example, which is run
# where it or the package has changed.
docs: .venv/docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html, or run $(BIN)/mkdocs serve."

clean:
	rm -rf .venv .venv-newest site .notebooks .mypy_cache .pytest_cache .ruff_cache .hypothesis .xla_cache

.venv/demo-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[cli]'
	touch $@

.venv/test-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev]'
	touch $@

.venv-newest/ready: pyproject.toml
	@test -n "$(NEWEST_PYTHON)" || { echo "make test-newest needs Python 3.12 or newer; NEWEST_PYTHON=PATH names one"; exit 1; }
	test -x $(NEWEST)/python || $(NEWEST_PYTHON) -m venv .venv-newest
	$(NEWEST)/python $(PIP) -e '.[dev]'
	touch $@

# The examples are run with what the tests have.
.venv/docs-ready: .venv/test-ready
	$(INSTALL) -e '.[dev,docs]'
	touch $@
