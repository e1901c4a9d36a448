"""The table of all algorithms: what is known is taken, what is missing is done, no more."""

import json
import sys

import pytest

from benchmarks import algorithms

COSTS = {"milliseconds": 12.0, "temporary_bytes": 3_000_000, "meta_parameters": 1761}


@pytest.fixture
def table(monkeypatch, tmp_path, capsys):
    """Run the program on sinusoids; returns the lines printed and what it wrote."""
    monkeypatch.setattr(
        algorithms, "measure_costs", lambda configs, _: dict.fromkeys(configs, COSTS)
    )
    monkeypatch.setattr(algorithms, "use_all_cores", lambda: None)  # JAX has started
    monkeypatch.chdir(tmp_path)
    common = ["--recipe", "sinusoid", "--updates", "1", "--tasks", "2", "--out", "out.json"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["algorithms", *common, *arguments])
        assert algorithms.main() == 0
        record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
        return capsys.readouterr().out.splitlines(), record

    return run


@pytest.mark.slow  # trains and measures twice
def test_known_rows_are_taken_and_missing_ones_done(table, tmp_path, monkeypatch):
    _, record = table("--only", "maml,anil", "--repeats", "0")
    assert "milliseconds" not in record["rows"][0]
    (tmp_path / "out.json").rename("scores.json")
    _, record = table("--only", "maml,anil", "--no-training")
    assert "mean squared error" not in record["rows"][0]
    (tmp_path / "out.json").rename("costs.json")
    monkeypatch.setattr(algorithms, "measure_costs", lambda some, _: some and pytest.fail("again"))
    lines, record = table("--only", "maml,anil", "--known", "scores.json", "costs.json")
    assert lines[0].split(" | ")[2:] == ["mean squared error", "ms", "MB", "meta-parameters |"]
    assert len(lines) == 4
    assert all(line.endswith("| 12 | 3.0 | 1,761 |") for line in lines[2:])
    assert {row["algorithm"] for row in record["rows"]} == {"maml", "anil"}
    assert [origin["file"] for origin in record["known"]] == ["scores.json", "costs.json"]


def test_rows_of_other_settings_are_not_taken(table, tmp_path):
    table("--only", "maml", "--no-training")
    (tmp_path / "out.json").rename("costs.json")
    common = ["--only", "maml", "--no-training", "--repeats", "0", "--known", "costs.json"]
    assert "milliseconds" in table(*common)[1]["rows"][0]
    _, record = table(*common, "--seed", "1")
    assert "milliseconds" not in record["rows"][0]
    assert record["known"][0]["rows"] == []


def test_what_cannot_do_regression_is_left_out(monkeypatch):
    monkeypatch.setattr(algorithms, "measure_costs", lambda some, _: pytest.fail(",".join(some)))
    monkeypatch.setattr(algorithms, "use_all_cores", lambda: None)
    monkeypatch.setattr(sys, "argv", ["algorithms", "--recipe", "sinusoid", "--no-training"])
    with pytest.raises(pytest.fail.Exception) as timed:
        algorithms.main()
    assert len(str(timed.value).split(",")) == 12
    assert "proto" not in str(timed.value)


def test_the_best_comes_first():
    rows = [
        {"algorithm": name, "inner_steps": 1, "evaluation_steps": 3, **scores}
        for name, scores in {
            "worse": {"transductive": {"accuracy": 0.5, "accuracy_ci95": 0.01}},
            "untested": {},
            "better": {"transductive": {"accuracy": 0.9, "accuracy_ci95": 0.02}},
        }.items()
    ]
    lines = algorithms.table(rows).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| better", "| worse", "| untested"]
    assert lines[0] == "| better | 1 / 3 | 90.00 ± 2.00 |"
