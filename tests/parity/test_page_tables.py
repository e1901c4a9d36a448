"""The tables of docs/parity.md are what their files make."""

import json

import pytest

from parity import page_tables

PAGE = page_tables.ROOT / "docs" / "parity.md"


def cell(model, error, after=None, jump=0.0):
    single = {"jax": error, "torch": 2 * error, "apart": error, "jump": jump}
    return {
        "algorithm": "maml",
        "model": model,
        "loss": error,
        "weights": [0.0, 3 * error],
        "meta_gradient": 2 * error,
        "after_updates": after,
        "float32": single,
        "passed": error < 1e-10,
    }


RESULTS = {
    "command": "python -m parity --only mlp",
    "versions": {"jax": "1", "torch": "2"},
    "cells": [cell("mlp", 1e-12), cell("gru", 1e-9, jump=1.0), cell("mlp", 4e-12, 1e-9)],
}


def test_the_largest_error_of_each_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(page_tables, "ROOT", tmp_path)
    (tmp_path / "r.json").write_text(json.dumps(RESULTS))
    page = tmp_path / "page.md"
    marks = "<!-- errors by model: r.json -->\n\n<!-- end of table -->"
    page.write_text(f"before\n{marks}\nbetween\n{marks.replace('errors', 'float32')}\nafter\n")
    assert page_tables.main([str(page)]) == 0
    once = page.read_text()
    assert "| mlp | 2 | 4e-12 | 1e-11 | 8e-12 | 1e-09 |\n| gru | 1 | 1e-09 |" in once
    assert "| mlp | 2 | 1e-12 to 4e-12 | 2e-12 to 8e-12 | 1e-12 to 4e-12 | 0 |" in once
    assert "[2 of 3 cells](../r.json)" in once
    assert "`python -m parity --only mlp`" in once
    assert once.startswith("before\n")
    assert "\nbetween\n" in once
    assert once.endswith("\nafter\n")
    assert page_tables.main([str(page)]) == 0
    assert page.read_text() == once


def test_it_needs_a_page(capsys):
    assert page_tables.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_page_is_up_to_date():
    text = PAGE.read_text()
    assert text.count("<!-- end of table -->") >= 4
    assert page_tables.with_tables(text) == text


@pytest.mark.parametrize("name", sorted(set(page_tables.files(PAGE.read_text()))))
def test_all_cells_of_its_files_are_within_their_bounds(name):
    results = json.loads((page_tables.ROOT / name).read_text())
    assert results["passed"]
    assert all(found["passed"] for found in results["cells"])
