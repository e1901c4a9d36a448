"""The published table: trained where missing, tested by both protocols, in Markdown and JSON."""

import json
import sys

import pytest

from benchmarks import published
from benchmarks.published import Cell

TINY = {"tasks": 2, "updates": 2, "validate_every": 0, "evaluation_steps": 1}
CELLS = {
    "images": Cell(
        "quickstart", published="98.7 ± 0.4", options={**TINY, "model": "mlp", "hidden": (4,)}
    ),
    "sinusoid": Cell("sinusoid", seeds=2, options={**TINY, "evaluation_steps": 10}),
}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published, "CELLS", CELLS)
    monkeypatch.setattr(published, "TASKS", 5)
    monkeypatch.setattr(published, "use_all_cores", lambda: None)  # JAX is used already

    def run(*arguments):
        words = ["published", "--from", str(tmp_path / "runs"), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        code = published.main()
        return code, capsys.readouterr()

    return run


@pytest.mark.slow  # trains three runs
def test_cells_are_trained_and_tested(call, tmp_path):
    out = tmp_path / "figures.json"
    code, said = call("--out", out)
    assert code == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [(row["cell"], row["seed"]) for row in rows] == [
        ("images", 0),
        ("sinusoid", 0),
        ("sinusoid", 1),
    ]
    paper, strict = rows[0]["paper"], rows[0]["strict"]
    assert (paper["queries"], strict["queries"]) == (1, 15)
    assert rows[0]["training_seconds"] > 0
    assert len(rows[1]["mean squared error"]["loss_per_step"]) == 11
    for row in rows:
        assert "data_dir" not in row["config"]
    assert "| images | 0 | 2 |" in said.out
    assert f"| {100 * paper['accuracy']:.2f} ± {100 * paper['accuracy_ci95']:.2f} |" in said.out

    # Finished runs are read, not trained again.
    again, other = call(
        "--no-training", "--only", "images,sinusoid:1", "--out", tmp_path / "b.json"
    )
    assert again == 0
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["rows"] == [
        rows[0],
        rows[2],
    ]
    assert other.out.count("| sinusoid |") == 1


def test_what_is_not_trained_is_said(call):
    code, said = call("--no-training", "--only", "images")
    assert code == 0
    assert "images-0: not trained to its end" in said.err


@pytest.mark.parametrize("only", ["image", "images:x"])
def test_bad_names_are_one_line(call, only, capsys):
    with pytest.raises(SystemExit) as stop:
        call("--only", only)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("python -m benchmarks.published: --only had")
