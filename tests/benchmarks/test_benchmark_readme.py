"""The README's table and the chart come from a results file, and from nowhere else."""

import json
import re

import pytest

from benchmarks import chart, readme
from benchmarks.process import ROOT
from benchmarks.workloads import WORKLOADS, to_json


def record(workload, peer, milliseconds, ratio):
    times = {"median_s": milliseconds / 1e3, "ratio_of_medians": ratio}
    return {"workload": workload.name, "peer": peer, "status": "measured", **times}


@pytest.fixture
def results():
    one, two = WORKLOADS[1], WORKLOADS[4]
    absent = {"peer": "higher", "status": "absent", "reason": "no module named 'higher'"}
    return {
        "command": "python -m benchmarks --device cpu",
        "date": "2026-01-02T03:04:05+00:00",
        "git": {"commit": "0123456789abcdef", "dirty": False},
        "versions": {"jax": "1.2", "torch": "3.4"},
        "machine": {"processor": "A Processor", "cores": 2, "os": "An OS"},
        "device": {"kind": "cpu", "name": None},
        "method": {"repeats": 7},
        "floors": {one.name: {"floor_s": 0.1234}, two.name: {"floor_s": 1e-5}},
        "workloads": [to_json(one), to_json(two)],
        "results": [
            record(one, "maml_jax", 387.4, 1.0),
            record(one, "torch_loop", 757.2, 1.95),
            {**absent, "workload": one.name},
            record(two, "maml_jax", 0.59, 1.0),
            record(two, "torch_loop", 0.5, 0.85),
            {**absent, "workload": two.name},
        ],
    }


@pytest.fixture
def places(results, tmp_path):
    """A results file, and a README with an empty table."""
    (tmp_path / "results").mkdir()
    file, text = tmp_path / "results" / "r.json", tmp_path / "README.md"
    file.write_text(json.dumps(results))
    text.write_text(f"before\n{readme.BEGIN.format(files='old.json')}\nx\n{readme.END}\nafter\n")
    return file, text


def rewritten(places):
    assert readme.main([str(places[0]), "--readme", str(places[1])]) == 0
    return places[1].read_text()


def test_the_table(places):
    text = rewritten(places)
    assert text.splitlines()[:6] == [
        "before",
        "<!-- made by `python -m benchmarks.readme results/r.json` -->",
        "| milliseconds, median | maml-jax | PyTorch loop | floor |",
        "|---|---:|---:|---:|",
        "| conv4-64, 2×2 maximum, 28×28, 5-way 1-shot, 32 tasks, 1 step, 5 queries "
        "| **387** | 757 (1.9×) | 123 |",
        "| sinusoid MLP, 25 tasks, 1 step, 10 queries | 0.59 | **0.5** (0.85×) | 0.01 |",
    ]
    assert "[The file](results/r.json): 2026-01-02, 2 cores of A Processor, An OS, jax 1.2" in text
    assert text.endswith(f"{readme.END}\nafter\n")
    assert rewritten(places) == text


def test_training_is_in_updates_a_second(places, results):
    training = WORKLOADS[-2]
    assert training.updates
    results["workloads"].append(to_json(training))
    results["floors"][training.name] = {"floor_s": 1e-6}
    results["results"] += [
        record(training, "maml_jax", 0.25, 1.0),
        record(training, "torch_loop", 125.0, 500.0),
    ]
    places[0].write_text(json.dumps(results))
    row = next(line for line in rewritten(places).splitlines() if "of training" in line)
    assert row.startswith("| updates a second of training, sampling included: sinusoid MLP, 25 ")
    assert row.endswith("| **4,000/s** | 8/s (500×) | 1,000,000/s |")


def test_another_result_makes_another_table(places, results):
    before = rewritten(places)
    results["results"][1]["median_s"] = 0.2
    places[0].write_text(json.dumps(results))
    after = rewritten(places)
    assert "| 387 | **200** (1.9×) |" in after
    assert after != before


@pytest.mark.parametrize("change", [lambda text: "nothing\n", lambda text: 2 * text])
def test_a_readme_without_one_pair_of_marks_stays_as_it_is(change, places, capsys):
    before = change(places[1].read_text())
    places[1].write_text(before)
    assert readme.main([str(places[0]), "--readme", str(places[1])]) == 2
    assert places[1].read_text() == before
    assert "there must be one line <!-- made by" in capsys.readouterr().err


def test_a_file_that_holds_no_results(places, capsys):
    before = places[1].read_text()
    places[0].write_text("{}")
    assert readme.main([str(places[0]), "--readme", str(places[1])]) == 2
    assert places[1].read_text() == before
    assert capsys.readouterr().err.count("\n") == 1


def test_of_several_files_a_workload_is_the_last_ones(results):
    later = json.loads(json.dumps(results))
    second = results["workloads"][1]["name"]
    later["results"] = [
        r | {"median_s": 0.001} for r in later["results"] if r["workload"] == second
    ]
    made = readme.block({"a.json": results, "b.json": later}).splitlines()
    alone = readme.block({"a.json": results}).splitlines()
    assert made[0] == readme.BEGIN.format(files="a.json b.json")
    assert made[1:4] == alone[1:4]  # the first row as it was
    assert "| 1 | 1 (0.85×) |" in made[4].replace("*", "")
    assert [line[:11] for line in made if line.startswith("[")] == ["[a](a.json)", "[b](b.json)"]


def test_the_readmes_table_is_what_its_files_make():
    text = (ROOT / "README.md").read_text()
    (names,) = re.findall(r"<!-- made by `python -m benchmarks.readme (.+)` -->", text)
    made = readme.block({name: json.loads((ROOT / name).read_text()) for name in names.split()})
    assert made in text


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_has_words_of_its_own(workload):
    said = readme.describe(workload)
    assert [readme.describe(other) for other in WORKLOADS].count(said) == 1
    assert f"{workload.tasks} tasks" in said


def test_bars(results):
    one, two = WORKLOADS[1].name, WORKLOADS[4].name
    assert chart.bars(results) == {
        one: {"torch_loop": 1.95, "higher": "absent"},
        two: {"torch_loop": 0.85, "higher": "absent"},
    }


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_chart_is_drawn(kind, results, places, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"chart.{kind}"
    assert chart.main([str(places[0]), str(file)]) == 0
    assert file.stat().st_size > 1000
    if kind == "png":
        return
    drawn = file.read_text()
    for text in (WORKLOADS[1].name, "1.95", "higher: absent", "torch_loop", "2026-01-02"):
        assert text in drawn
    results["results"][1]["ratio_of_medians"] = 3.21
    chart.draw(results, file)
    assert "3.21" in file.read_text()
    assert "1.95" not in file.read_text()


def test_the_chart_of_no_results(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert chart.main([str(tmp_path / "x.json"), str(tmp_path / "x.png")]) == 2
    assert "FILE was" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
