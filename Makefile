# `make demo` and `make test` each build .venv by themselves; PYTHON names the interpreter (≥ 3.11).
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test clean

demo: .venv/demo-ready
	rm -rf runs/demo
	$(BIN)/maml-jax train --recipe quickstart --out runs/demo
	$(BIN)/maml-jax evaluate runs/demo --tasks 500
	@echo
	@echo "Look at runs/demo/episode.png: one task, before and after adaptation."

test: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/demo-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[cli]'
	touch $@

.venv/test-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev]'
	touch $@
