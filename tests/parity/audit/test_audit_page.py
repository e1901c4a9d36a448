"""docs/audit.md: its example, its tables, and the programs that it prints."""

import re

import pytest

from parity.audit import page
from parity.audit.operations import OPERATIONS
from parity.page_tables import ROOT

PAGE = ROOT / "docs" / "audit.md"
TEXT = PAGE.read_text("utf-8")
RESULTS = {
    "audited": [
        {
            "stack": "torch",
            "kind": "norm",
            "operation": "layer_norm",
            "mode": "func",
            "precision": "float64",
            "right": {"grad": 1e-16},
            "others": [
                {"transformation": "jvp∘jvp", "order": 2, "verdict": "wrong", "error": 0.59},
                {"transformation": "grad∘jvp", "order": 2, "verdict": "not supported"},
            ],
        },
        {
            "stack": "torch",
            "kind": "norm",
            "operation": "group_norm",
            "mode": "func",
            "precision": "float64",
            "right": {"grad": 1e-16, "jvp∘jvp": 1e-16},
        },
    ],
    "summary": {"right": 3, "cells": 5, "wrong": 1, "not_supported": 1, "undecided": 0},
    "versions": {"torch": "2.0", "jax": "0.1"},
    "command": "python -m parity.audit",
    "seconds": 12.3,
    "conventions": [],
}


def test_a_table_has_what_is_not_right(monkeypatch):
    monkeypatch.setattr(page, "_read", lambda name: RESULTS)
    text = page.with_tables("<!-- audit: r.json -->\n<!-- end of table -->\n")
    assert "| `layer_norm` | right | **6e-01** | – |" in text
    assert "group_norm" not in text
    assert "1 of 2 operations are right throughout" in text
    assert page.with_tables(text) == text


def test_the_page_is_up_to_date():
    assert TEXT.count("<!-- end of table -->") >= 5
    assert page.with_tables(TEXT) == TEXT


def test_every_operation_that_it_names_is_there():
    bugs = TEXT.split("## Bugs that are known")[1].split("## What was not known")[0]
    rows = "".join(row.split("|")[2] for row in bugs.splitlines() if row.startswith("| "))
    names = {name for name in re.findall(r"`([a-z0-9_]+)`", rows) if name not in ("jit", "here")}
    assert names
    assert names <= {operation.name for operation in OPERATIONS}


@pytest.mark.slow  # it takes differences of differences of a function of PyTorch
def test_its_example_finds_the_error(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT.split("## What is checked")[0], re.DOTALL)
    assert len(example.splitlines()) <= 5
    exec(example, {})  # noqa: S102
    assert "grad∘grad        autograd wrong" in capsys.readouterr().out


def test_it_needs_a_page(capsys):
    assert page.main([]) == 2
    assert "usage" in capsys.readouterr().err
