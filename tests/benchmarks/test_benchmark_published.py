"""The published table: trained where missing, tested by both protocols, in Markdown and JSON."""

import json
import re
import sys
from dataclasses import replace

import pytest

from benchmarks import published, published_table
from benchmarks.process import ROOT
from benchmarks.published import Cell
from maml_jax.training.runs import write_record

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
    assert "| 5-way 1-shot | maml, mlp 4 | 0 | 2 |" in said.out
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
    assert other.out.count("| 10 | 1 |") == 1


def test_what_is_not_trained_is_said(call):
    code, said = call("--no-training", "--only", "images")
    assert code == 1
    assert "images-0: not trained to its end" in said.err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"chunk": 1, "nonfinite": "skip", "validate_every": 1}, None),
        ({"inner_lr": 0.1}, "other settings than the cell's: inner_lr 0.1 for "),
        ({"updates": 1}, "not trained to its end"),
    ],
)
def test_a_run_is_its_cells_by_all_that_decides_the_weights(tmp_path, changed, said):
    config = CELLS["images"].config(0, None)
    given = replace(config, **changed)
    write_record(tmp_path, {"config": given.to_json()})
    line = json.dumps({"update": given.updates, "loss": 1.0})
    (tmp_path / "metrics.jsonl").write_text(line + "\n", encoding="utf-8")
    reason = published.why_not(tmp_path, config)
    assert reason is None if said is None else said in reason


@pytest.mark.parametrize("only", ["image", "images:x"])
def test_bad_names_are_one_line(call, only, capsys):
    with pytest.raises(SystemExit) as stop:
        call("--only", only)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("python -m benchmarks.published: --only had")


@pytest.mark.parametrize(
    ("page", "tables"),
    [
        ("README.md", [published_table.summary]),
        ("docs/results.md", [published_table.classification, published_table.regression]),
    ],
)
def test_the_pages_have_what_the_file_says(page, tables):
    text = (ROOT / page).read_text(encoding="utf-8")
    file = re.search(r"made by `python -m benchmarks.published_table (\S+)`", text)
    assert file, f"{page} does not say where its table comes from"
    rows = json.loads((ROOT / file[1]).read_text(encoding="utf-8"))["rows"]
    for table in tables:
        assert f"\n{table(rows)}\n" in text


def test_the_summary_takes_the_best_of_others_and_all_seeds():
    def row(seed, accuracy, algorithm="maml", model="conv4", shots=1):
        config = {"ways": 5, "shots": shots, "model": model, "hidden": [4]}
        return {
            "seed": seed,
            "algorithm": algorithm,
            "published": "98.7",
            "updates": 2,
            "config": config,
            "paper": {"accuracy": accuracy, "accuracy_ci95": 0.01},
        }

    rows = [row(0, 0.5), row(1, 0.7), row(0, 0.9, "protonet"), row(0, 0.8, "fomaml")]
    rows.insert(1, row(0, 0.6, shots=5))
    rows.append(row(0, 0.99, model="mlp"))
    assert published_table.summary(rows).splitlines()[2:] == [
        "| 5-way 1-shot | 60.00 (2 seeds: 50.00 to 70.00) | 90.00 ± 1.00, protonet | 98.7 |",
        "| 5-way 5-shot | 60.00 ± 1.00 |  | 98.7 |",
    ]


@pytest.mark.parametrize(("value", "shown"), [(0.125, "0.125 ± 0.010"), (3e5, "diverges")])
def test_a_regression_that_diverges_has_no_figure(value, shown):
    of = {"loss_per_step": [value], "loss_per_step_ci95": [0.01]}
    assert published_table.loss(of, 0) == shown
    assert published_table.loss({**of, "loss_per_step": [None]}, 0) == "diverges"  # JSON's NaN
