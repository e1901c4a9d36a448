"""The documents' tables and the chart come from results files, and from nowhere else."""

import json
import re
from pathlib import Path

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
            record(one, "torchopt", 650.0, 1.68),
            record(one, "maml_jax_before", 300.0, 0.78),
            {**absent, "workload": one.name},
            record(two, "maml_jax", 0.59, 1.0),
            record(two, "torch_loop", 0.5, 0.85),
            {**absent, "workload": two.name},
        ],
    }


@pytest.fixture
def project(results, tmp_path):
    """A folder with a results file and the two documents, their tables empty."""
    for folder in ("results", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "results" / "r.json").write_text(json.dumps(results))
    marks = f"{readme.BEGIN.format(files='old.json')}\nx\n{readme.END}"
    for name in readme.DOCUMENTS:
        (tmp_path / name).write_text(f"before\n{marks}\nafter\n")
    return tmp_path


def rewritten(project):
    """The texts of README.md and docs/speed.md."""
    assert readme.main([str(project / "results" / "r.json")], root=project) == 0
    return [(project / name).read_text(encoding="utf-8") for name in readme.DOCUMENTS]


def test_the_tables(project):
    small, full = rewritten(project)
    assert small.splitlines()[:6] == [
        "before",
        "<!-- made by `python -m benchmarks.readme results/r.json` -->",
        "| milliseconds, median | maml-jax | PyTorch loop | fastest of PyTorch | its time / ours |",
        "|---|---:|---:|---:|---:|",
        "| conv4-64, 2×2 max pooling, 28×28, 5-way 1-shot, 32 tasks, 1 step, 5 queries "
        "| 387 | 757 | 650, TorchOpt | 1.7× |",
        "| sinusoid MLP, 25 tasks, 1 step, 10 queries | 0.59 | 0.5 | 0.5, PyTorch loop | 0.85× |",
    ]
    assert full.splitlines()[1:6] == [
        "<!-- made by `python -m benchmarks.readme results/r.json` -->",
        "| milliseconds, median | maml-jax | before | PyTorch loop | TorchOpt | floor |",
        "|---|---:|---:|---:|---:|---:|",
        "| conv4-64, 2×2 max pooling, 28×28, 5-way 1-shot, 32 tasks, 1 step, 5 queries "
        "| 387 | **300** (0.78×) | 757 (1.9×) | 650 (1.7×) | 123 |",
        "| sinusoid MLP, 25 tasks, 1 step, 10 queries | 0.59 |  | **0.5** (0.85×) |  | 0.01 |",
    ]
    origin = "2026-01-02, 2 cores of A Processor, An OS, jax 1.2"
    assert "From [r](results/r.json).\n" in small
    assert f"[r](../results/r.json): {origin}" in full
    assert small.endswith(f"{readme.END}\nafter\n")
    assert rewritten(project) == [small, full]


def test_training_is_in_updates_a_second(project, results):
    training = WORKLOADS[-2]
    assert training.updates
    results["workloads"].append(to_json(training))
    results["floors"][training.name] = {"floor_s": 1e-6}
    results["results"] += [
        record(training, "maml_jax", 0.25, 1.0),
        record(training, "torch_loop", 125.0, 500.0),
    ]
    (project / "results" / "r.json").write_text(json.dumps(results))
    small, full = (
        next(line for line in text.splitlines() if "training" in line)
        for text in rewritten(project)
    )
    assert small.startswith("| training, updates a second: sinusoid MLP, 25 tasks")
    assert small.endswith("| 4,000/s | 8/s | 8/s, PyTorch loop | 500× |")
    assert full.endswith("| **4,000/s** |  | 8/s (500×) |  | 1,000,000/s |")


def test_another_result_makes_another_table(project, results):
    before = rewritten(project)
    results["results"][1]["median_s"] = 0.2
    (project / "results" / "r.json").write_text(json.dumps(results))
    small, full = rewritten(project)
    assert "| 387 | 200 | 200, PyTorch loop |" in small
    assert "| 387 | 300 (0.78×) | **200** (1.9×) |" in full
    assert [small, full] != before


def refused(project):
    """Whether the command ends with status 2 and leaves both documents as they were."""
    before = [(project / name).read_text(encoding="utf-8") for name in readme.DOCUMENTS]
    with pytest.raises(SystemExit) as stopped:
        readme.main([str(project / "results" / "r.json")], root=project)
    after = [(project / name).read_text(encoding="utf-8") for name in readme.DOCUMENTS]
    return stopped.value.code == 2 and after == before


@pytest.mark.parametrize("name", readme.DOCUMENTS)
@pytest.mark.parametrize("change", [lambda text: "nothing\n", lambda text: 2 * text])
def test_a_document_without_one_pair_of_marks_stays_as_it_is(change, name, project, capsys):
    (project / name).write_text(change((project / name).read_text(encoding="utf-8")))
    assert refused(project)
    said = capsys.readouterr().err
    assert f"{name} was not rewritten: there must be one line <!-- made by" in said


@pytest.mark.parametrize("text", ["{}", "no JSON"])
def test_a_file_that_holds_no_results(text, project, capsys):
    (project / "results" / "r.json").write_text(text)
    assert refused(project)
    assert capsys.readouterr().err.count("\n") == 1


def test_of_several_files_a_workload_is_the_last_ones(results):
    later = json.loads(json.dumps(results))
    second = results["workloads"][1]["name"]
    later["results"] = [
        r | {"median_s": 0.001} for r in later["results"] if r["workload"] == second
    ]
    both, table = {"a.json": results, "b.json": later}, readme.full_table
    made = readme.block(both, table).splitlines()
    alone = readme.block({"a.json": results}, table).splitlines()
    assert made[0] == readme.BEGIN.format(files="a.json b.json")
    assert made[1:4] == alone[1:4]  # the first row as it was
    assert "| 1 |  | 1 (0.85×) |" in made[4].replace("*", "")
    assert [line[:11] for line in made if line.startswith("[")] == ["[a](a.json)", "[b](b.json)"]


@pytest.mark.parametrize("name", readme.DOCUMENTS)
def test_a_documents_table_is_what_its_files_make(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    (files,) = re.findall(r"<!-- made by `python -m benchmarks.readme (.+)` -->", text)
    results = {
        file: json.loads((ROOT / file).read_text(encoding="utf-8")) for file in files.split()
    }
    made = readme.block(results, readme.DOCUMENTS[name], str(Path(name).parent))
    assert made in text


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_has_words_of_its_own(workload):
    said = readme.describe(workload)
    assert [readme.describe(other) for other in WORKLOADS].count(said) == 1
    assert f"{workload.tasks} tasks" in said


def test_bars(results):
    one, two = WORKLOADS[1].name, WORKLOADS[4].name
    assert chart.bars(results) == {
        one: {"torch_loop": 1.95, "torchopt": 1.68, "maml_jax_before": 0.78, "higher": "absent"},
        two: {"torch_loop": 0.85, "higher": "absent"},
    }


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_chart_is_drawn(kind, results, project, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"chart.{kind}"
    assert chart.main([str(project / "results" / "r.json"), str(file)]) == 0
    assert file.stat().st_size > 1000
    if kind == "png":
        return
    drawn = file.read_text(encoding="utf-8")
    for text in (WORKLOADS[1].name, "1.95", "higher: absent", "torch_loop", "2026-01-02"):
        assert text in drawn
    results["results"][1]["ratio_of_medians"] = 3.21
    chart.draw(results, file)
    assert "3.21" in file.read_text(encoding="utf-8")
    assert "1.95" not in file.read_text(encoding="utf-8")


def test_the_chart_of_no_results(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        chart.main([str(tmp_path / "x.json"), str(tmp_path / "x.png")])
    assert stopped.value.code == 2
    assert "FILE was" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
