# Each target builds the environment that it needs by itself; PYTHON names the interpreter (≥ 3.11).
PYTHON ?= python3
NEWEST_PYTHON ?= $(shell .ci/newest-python)
BIN := .venv/bin
NEWEST := .venv-newest/bin
DOCS := .venv-docs/bin
PIP := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP) -c constraints.txt

.PHONY: demo test test-all test-newest lint docs clean

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

# And the tests that are slow for a reason that they state.
test-all: test
	$(BIN)/pytest -n 2 --dist loadgroup -m slow

# The tests with the newest Python on this machine and the newest of every dependency.
test-newest: .venv-newest/ready
	$(NEWEST)/python -c "import sys, jax; print('Python', sys.version.split()[0], 'with JAX', jax.__version__)"
	$(NEWEST)/pytest -n 2 --dist loadgroup -m "not slow"

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/; a link without a target is an error.
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict --quiet
	@echo "Open site/index.html, or run $(DOCS)/mkdocs serve."

clean:
	rm -rf .venv .venv-newest .venv-docs site .mypy_cache .pytest_cache .ruff_cache .hypothesis .xla_cache

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

# The API pages are read from the sources, so neither JAX nor this package is installed.
.venv-docs/ready: pyproject.toml constraints.txt
	test -x $(DOCS)/python || $(PYTHON) -m venv .venv-docs
	$(DOCS)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > .venv-docs/requirements.txt
	$(DOCS)/python $(PIP) -c constraints.txt -r .venv-docs/requirements.txt
	touch $@
