"""`python -m parity.article`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity.article import agreement, training
from parity.article.__main__ import main

ROOT = Path(__file__).parents[2]


def test_command_compares_and_trains(folder, capsys):
    out = folder / "record.json"
    options = ["--data-dir", str(folder), "--steps", "10", "1", "--epochs", "2", "--out", str(out)]
    assert main(options) == 0
    output = capsys.readouterr()
    record = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert str(folder) not in out.read_text()
    assert {"command", "date", "git", "versions", "machine"} <= record.keys()
    assert record["passed"] is True
    assert [row["steps"] for row in record["agreement"]["rows"]] == [1, 10]
    runs = record["training"]["runs"]
    assert [(run["softmax"], run["seed"]) for run in runs] == [("twice", 0), ("once", 0)]
    for run in runs:
        assert len(run["accuracy_per_epoch"]) == 2
        assert all(value in (0, 0.2, 0.4, 0.6, 0.8, 1) for value in run["accuracy_per_epoch"])
    assert "the article reports, after 20 epochs  83%" in output.out
    assert "epoch 2/2" in output.err


def test_command_says_what_failed(folder, capsys, monkeypatch):
    monkeypatch.setattr(agreement, "BOUND", 0.0)
    assert main(["--data-dir", str(folder), "--steps", "1", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["passed"] is False
    assert record["training"]["runs"] == []


def test_several_seeds_are_several_runs(folder, capsys, monkeypatch):
    def fake(digits, epochs, seed, *, double_softmax):
        assert double_softmax
        yield from [0.0] * (epochs - 1)
        yield {7: 0.25, 8: 0.5, 9: 0.9}[seed]

    monkeypatch.setattr(training, "train", fake)
    options = ["--steps", "1", "--epochs", "2", "--seed", "7", "--seeds", "3", "--softmax", "twice"]
    assert main(["--data-dir", str(folder), *options]) == 0
    output = capsys.readouterr()
    assert "55.00%, the mean of 3 seeds, from 25.00% to 90.00%" in output.out
    assert "softmax once" not in output.out
    assert "softmax twice, seed 9, epoch 2/2: test accuracy 90.00%, 0 s left" in output.err


def test_command_without_data(tmp_path, capsys):
    assert main(["--data-dir", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("parity.article: --data-dir had no mnist/train-images")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--out", "nowhere/record.json"], "--out was nowhere/record.json; its folder must exist"),
        (["--seed", str(2**32)], "--seed was 4294967296; it must be an integer in 0 to"),
        (["--seed", str(2**32 - 1), "--seeds", "2"], "--seeds was 2; the last seed, 4294967296,"),
    ],
)
def test_wrong_values_are_told_before_any_work(tmp_path, capsys, wrong, message):
    assert main(["--data-dir", str(tmp_path), *wrong]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--epochs", "-1"], ["--steps", "0"], ["--seed", "x"], ["--seeds", "0"]]
)
def test_wrong_arguments(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        main(["--data-dir", str(tmp_path), *wrong])
    assert stopped.value.code == 2
    assert "is not an integer of at least" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["parity", "parity.article"])
def test_without_pytorch_one_line_names_the_extra(module):
    arguments = ["--data-dir", "FOLDER"] if module == "parity.article" else []
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"from {module}.__main__ import main\nsys.exit(main({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    message = "torch is not installed, which this needs: pip install 'maml-jax[parity]'."
    assert done.stderr == f"{module}: {message}\n"
    assert done.stdout == ""


def test_results_are_those_in_the_documentation():
    """docs/article.md quotes its results file."""
    text = (ROOT / "docs" / "article.md").read_text()
    (name,) = set(re.findall(r"results/(\d{4}-\d\d-\d\d-article\.json)", text))
    results = json.loads((ROOT / "benchmarks" / "results" / name).read_text())
    assert results["passed"] is True
    quoted = re.findall(r"^\| (\d+) steps? \| (\S+) \| (\S+) \|$", text, re.MULTILINE)
    rows = results["agreement"]["rows"]
    assert quoted == [
        (str(row["steps"]), f"{row['weights']:.1e}", f"{row['movement']:.1e}") for row in rows
    ]
    assert [row["steps"] for row in rows] == [1, 10, 100, 1000]
