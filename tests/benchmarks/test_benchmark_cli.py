"""The command line, the results file and the tables."""

import io
import json

import pytest

from benchmarks import __main__ as cli
from benchmarks import chart, machine, options, peaks, results_table, runner
from benchmarks.peers import FORMS, LOWER_PRECISION, PEERS, SLOW
from benchmarks.workloads import QUICK, WORKLOADS

MEASURED = {
    "status": "measured",
    "loss": 1.6,
    "first_call_s": 9.0,
    "compile_s": 8.0,
    "calls_per_repeat": 1,
    "seconds": [1.0, 1.5],
    "median_s": 1.25,
    "min_s": 1.0,
    "max_s": 1.5,
    "ratio_of_medians": 1.0,
    "median_ratio": 1.0,
    "memory": {"kind": "resident set", "peak_bytes": 3e8, "growth_bytes": 2e8},
    "float64": {"loss_error": 0.0, "gradient_error": 0.0},
    "float32": {"loss_error": 0.0, "gradient_error": 1.2e-7},
}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Replace the measuring, and the folder of results; returns what the runner was told."""
    told = {}

    def run(workloads, peers, **options):
        told.update(options, peers=list(peers), workloads=[w.name for w in workloads])
        return [
            {"workload": workload.name, "peer": peer, **told.get("record", MEASURED)}
            for workload in workloads
            for peer in peers
        ]

    monkeypatch.setattr(runner, "run", run)
    speeds = {"flops": 1e12, "bytes_per_s": 1e10, "by": {}}
    monkeypatch.setattr(peaks, "measure", lambda device: speeds)
    monkeypatch.setattr(chart, "draw", lambda results, file: file.write_text("a picture"))
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    return told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "x y"], "argument --only: was 'x y'; it must be part of one of conv4-maxpool"),
        (
            ["--only", "conv4,xy"],
            "argument --only: was 'xy'; it must be part of one of conv4-maxpool",
        ),
        (
            ["--only", "sinusoid,"],
            "argument --only: was ''; it must be part of one of conv4-maxpool",
        ),
        (["--peers", "torch_lop"], "argument --peers: was 'torch_lop'; did you mean 'torch_loop'?"),
        (["--peers", ""], "argument --peers: was ''; it may be any of maml_jax, "),
        (["--repeats", "0"], "argument --repeats: was '0'; it must be an integer of at least 1"),
        (["--repeats", "two"], "argument --repeats: was 'two'; it must be"),
        (["--minutes", "0"], "argument --minutes: was '0'; it must be a number above 0"),
        (["--patience", "nan"], "argument --patience: was 'nan'; it must be a number above 0"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu' (choose from"),
        (["--out", "no/such/folder.json"], "argument --out: was 'no/such/folder.json'; its folder"),
        (["--out", __file__], "which exists; it must be a new file"),
        (["--device", "gpu"], "argument --device: was 'gpu'; JAX sees none here"),
        (["--before", "no/such/folder"], "was 'no/such/folder', which has no maml_jax; it must be"),
    ],
)
def test_bad_arguments_get_one_line(arguments, message, measured, monkeypatch, capsys):
    monkeypatch.setattr(machine, "gpu_name", lambda platforms: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not measured


def test_json_has_the_fields(measured, tmp_path, capsys):
    file = tmp_path / "r.json"
    only = "sinusoid-25tasks-1step-10queries"
    arguments = ["--device", "cpu", "--only", only, "--peers", "torch_func"]
    assert cli.main([*arguments, "--json", "--out", str(file)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads(file.read_text(encoding="utf-8"))
    assert results["command"] == f"python -m benchmarks {' '.join(arguments)}"
    assert set(results) == {
        "command", "date", "git", "versions", "machine", "device", "method", "peaks", "floors",
        "workloads", "results",
    }  # fmt: skip
    assert {"python", "jax", "jaxlib", "torch", "numpy"} <= set(results["versions"])
    assert {"processor", "cores", "os"} <= set(results["machine"])
    assert {"commit", "dirty"} == set(results["git"])
    assert results["method"]["repeats"] == options.REPEATS
    assert results["workloads"][0]["inner_steps"] == 1
    assert [record["peer"] for record in results["results"]] == ["maml_jax", "torch_func"]
    assert results["results"][0]["seconds"] == [1.0, 1.5]
    floor = results["floors"]["sinusoid-25tasks-1step-10queries"]
    assert floor["floor_s"] == max(floor["operations"] / 1e12, floor["bytes"] / 1e10)
    assert results["results"][0]["floor_fraction"] == floor["floor_s"] / 1.25


def checkout(folder):
    """The least that is a checkout of this project."""
    for file in ("maml_jax/__init__.py", "benchmarks/worker.py", "benchmarks/peers/maml_jax.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_before_is_told_to_the_runner_and_recorded(measured, tmp_path, monkeypatch):
    folder = checkout(tmp_path / "old")
    states = {cli.machine.ROOT: "1" * 40, folder: "2" * 40}
    monkeypatch.setattr(
        machine,
        "git_state",
        lambda folder=machine.ROOT: {"commit": states[folder], "dirty": False},
    )
    file = tmp_path / "r.json"
    only = ["--only", "sinusoid-25tasks-1step-10queries", "--peers", "torch_loop"]
    command = ["--device", "cpu", "--before", str(folder), *only]
    assert cli.main([*command, "--out", str(file)]) == 0
    assert measured["before"] == folder
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["command"].startswith("python -m benchmarks --device cpu --before DIR --only")
    assert str(tmp_path) not in json.dumps(results)
    assert results["maml_jax_before"]["commit"] == "2" * 40
    assert "commit 1111111111, before: commit 2222222222; 7" in results_table.origin(results)


def test_before_must_be_what_python_imports(measured, tmp_path, monkeypatch, capsys):
    """An installation that goes before the folder would be compared with itself."""
    monkeypatch.setattr(runner, "package_origin", lambda folder: tmp_path / "elsewhere.py")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--device", "cpu", "--before", str(checkout(tmp_path / "old"))])
    assert stopped.value.code == 2
    assert "this Python imports maml_jax from" in capsys.readouterr().err
    assert not measured


def test_training_has_its_rate(measured, tmp_path, capsys):
    file = tmp_path / "r.json"
    only = ["--only", "training-sinusoid", "--peers", "torch_loop"]
    assert cli.main(["--device", "cpu", *only, "--out", str(file)]) == 0
    records = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert [record["updates_per_s"] for record in records] == [0.8, 0.8]
    said = capsys.readouterr().out
    assert "- training-sinusoid-25tasks-1step, torch_loop: 0.8 meta-updates a second" in said


def test_default_file_is_new_each_time(measured, tmp_path, capsys):
    for _ in range(2):
        assert cli.main(["--device", "cpu"]) == 0
    assert cli.main(["--device", "cpu", "--quick"]) == 0
    names = sorted(file.name[10:] for file in (tmp_path / "benchmarks" / "results").iterdir())
    stems = ["-cpu-2", "-cpu-part", "-cpu"]
    assert names == sorted(stem + form for stem in stems for form in (".json", ".png"))


def test_quick_is_a_part(measured):
    assert cli.main(["--device", "cpu", "--quick"]) == 0
    assert measured["repeats"] == options.QUICK_REPEATS
    assert measured["workloads"] == list(QUICK)
    assert set(measured["peers"]) == set(PEERS) - {*SLOW, *LOWER_PRECISION, *FORMS}
    assert 170 < measured["seconds"] <= 180
    assert cli.main(["--device", "cpu", "--quick", "--minutes", "1", "--patience", "5"]) == 0
    assert 50 < measured["seconds"] <= 60
    assert measured["patience"] == 5


def test_all_is_all_but_what_a_cpu_cannot(measured, monkeypatch):
    large = [w.name for w in WORKLOADS if w.gpu_only]
    assert large == ["resnet12-4tasks-5steps-75queries"]
    assert cli.main(["--device", "cpu"]) == 0
    assert measured["peers"] == [name for name in PEERS if name not in (*LOWER_PRECISION, *FORMS)]
    assert measured["seconds"] == float("inf")
    assert measured["workloads"] == [w.name for w in WORKLOADS if w.name not in large]
    assert cli.main(["--device", "cpu", "--only", large[0]]) == 0
    assert measured["workloads"] == large
    assert cli.main(["--device", "cpu", "--only", "training-sin,20way,5shot"]) == 0
    assert measured["workloads"] == [
        "training-sinusoid-25tasks-1step",
        "conv4-stride-20way-5shot-16tasks-5steps",
    ]
    monkeypatch.setattr(machine, "gpu_name", lambda platforms: "NVIDIA H100 80GB HBM3")
    assert cli.main(["--device", "gpu"]) == 0
    assert measured["workloads"] == [w.name for w in WORKLOADS]
    assert measured["peers"] == [name for name in PEERS if name not in FORMS]


def test_what_was_skipped_is_not_a_failure(measured, tmp_path, monkeypatch, capsys):
    measured["record"] = {"status": "skipped", "reason": "the time was up, 1 s"}
    assert cli.main(["--device", "cpu", "--minutes", "1"]) == 1  # nothing at all was measured
    run = runner.run

    def some(workloads, peers, **options):
        records = run(workloads, peers, **options)
        first = records[0]["workload"]
        return [{**r, **(MEASURED if r["workload"] == first else {})} for r in records]

    monkeypatch.setattr(runner, "run", some)
    assert cli.main(["--device", "cpu", "--minutes", "1"]) == 0
    assert "skipped: the time was up" in capsys.readouterr().out
    names = sorted(file.name[10:] for file in (tmp_path / "benchmarks" / "results").iterdir())
    assert names == ["-cpu-part.json", "-cpu-part.png"]


def test_an_interrupted_run_keeps_what_is_finished(measured, tmp_path, monkeypatch):
    measured["record"] = {"status": "skipped", "reason": runner.INTERRUPTED}
    assert cli.main(["--device", "cpu"]) == 130
    assert not (tmp_path / "benchmarks" / "results").exists()
    run = runner.run

    def some(workloads, peers, **options):
        first, *rest = run(workloads, peers, **options)
        return [first | MEASURED, *rest]

    monkeypatch.setattr(runner, "run", some)
    assert cli.main(["--device", "cpu"]) == 130
    names = sorted(file.name[10:] for file in (tmp_path / "benchmarks" / "results").iterdir())
    assert names == ["-cpu-part.json", "-cpu-part.png"]


def test_a_log_gets_a_line_each_minute(monkeypatch):
    stream, now = io.StringIO(), iter([0, 1, 30, 61, 62, 200])
    monkeypatch.setattr(cli.time, "monotonic", lambda: next(now))
    show = cli._progress(stream)
    for text in ("a", "b", "c", "d", "e"):
        show(text)
    assert stream.getvalue().splitlines() == ["0 min: a", "1 min: c", "3 min: e"]


def test_no_chart_without_matplotlib(measured, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["--device", "cpu", "--only", "sinusoid"]) == 0
    assert "no chart: matplotlib is not installed" in capsys.readouterr().err
    (file,) = (tmp_path / "benchmarks" / "results").iterdir()
    assert file.suffix == ".json"


def test_gpu_is_the_default_where_there_is_one(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "gpu_name", lambda platforms: "NVIDIA H100 80GB HBM3")
    assert cli.main([]) == 0
    assert measured["device"] == "gpu"
    (file,) = (tmp_path / "benchmarks" / "results").glob("*.json")
    assert file.name.endswith("-nvidia-h100-80gb-hbm3.json")


def test_nothing_is_written_where_the_reference_failed(measured, tmp_path, capsys):
    measured["record"] = {"status": "failed", "reason": "exit code 1"}
    assert cli.main(["--device", "cpu", "--only", "stride"]) == 1
    out, err = capsys.readouterr()
    assert "failed: exit code 1" in out
    assert "nothing written" in err
    assert not (tmp_path / "benchmarks" / "results").exists()


def test_tables(measured, tmp_path, capsys):
    file = tmp_path / "r.json"
    only = "sinusoid-25tasks-1step-10queries"
    cli.main(["--device", "cpu", "--only", only, "--peers", "torch_loop", "--out", str(file)])
    results = json.loads(file.read_text(encoding="utf-8"))
    results["results"][1] |= {"status": "refused", "reason": "another gradient"}
    markdown = results_table.markdown_table(results).splitlines()
    assert markdown[2] == (
        "| sinusoid-25tasks-1step-10queries | maml_jax | 1250 (1000-1500) | 1.00 (1.00) "
        "| 300 (200) | 8.0 | 0.0008 % | 0e+00 / 1e-07 |"
    )
    assert markdown[3].endswith("| torch_loop | refused: another gradient |  |  |  |  |  |")
    assert len({line.count("|") for line in markdown[:4]}) == 1
    floors = next(line for line in markdown if line.startswith("Floors, "))
    assert "operations at 1000 GFLOP/s" in floors
    assert "bytes at 10 GB/s" in floors
    assert "- sinusoid-25tasks-1step-10queries: 9.96 MFLOP 0.00996 ms, " in "\n".join(markdown)
    assert any("`python -m benchmarks --device cpu" in line for line in markdown)
    assert "refused: another gradient" in results_table.screen_table(results)
    capsys.readouterr()
    assert results_table.main([str(file)]) == 0
    assert "1250 (1000-1500)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.json", "missing.json"])
def test_table_of_no_results_file(name, tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        results_table.main([str(tmp_path / name)])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "FILE was " in err
    assert err.count("\n") == 1


def test_machine_names_no_path():
    assert str(machine.ROOT) not in json.dumps(machine.environment())
    assert machine.machine()["cores"] >= 1


def test_help_names_every_workload(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert all(workload.name in out for workload in WORKLOADS)
