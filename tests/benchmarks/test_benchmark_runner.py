"""Who is timed, who is refused, and what a worker that goes wrong leaves behind."""

import dataclasses
import json
import os

import numpy as np
import pytest

from benchmarks import machine, memory, runner
from benchmarks.peers import PEERS
from benchmarks.worker import encode
from benchmarks.workloads import MLP, Workload, make_inputs

TINY = Workload("tiny", MLP(hidden=(3,)), 3, 2, 2, 1, 0.1)
TRAINING = Workload("training", MLP(hidden=(3,)), 3, 2, 2, 1, 0.1, updates=10)
HONEST = """
import os, sys, time
import numpy as np
from benchmarks.peers import AbsentError, Program

def prepare(workload, inputs, device):
    def step():
        print("a library that prints")
        return 1.0, {"w": inputs.query_x}
    return Program(step, lambda outputs: outputs, lambda: None)
"""
TRAINER = HONEST.replace("def prepare(", "def prepare_training(").replace(
    "    return Program(step, lambda outputs: outputs, lambda: None)",
    """
    def check():
        return 1.0, {"w": inputs.query_x}
    def slow_step():
        time.sleep(0.5)
    return Program(slow_step, lambda outputs: outputs, lambda: None, check, "as it is")
""",
)
SOURCES = {
    "slow": HONEST.replace("print(", "time.sleep(0.3); print("),
    "trainer": TRAINER + "\nprepare = None\n",
    "wrong_trainer": TRAINER.replace("return 1.0,", "return 1.1,") + "\nprepare = None\n",
    "honest": "",
    "wrong": HONEST.replace("inputs.query_x}", "inputs.query_x * 1.00001}"),
    "shapeless": HONEST.replace("inputs.query_x}", "inputs.query_x[:1]}"),
    "nan": HONEST.replace("inputs.query_x}", "inputs.query_x * np.nan}"),
    "absent": HONEST.replace("def step():", "raise AbsentError('not today')\n    def step():"),
    "missing": "import no_such_framework",
    "crashing": HONEST.replace("def step():", "raise ValueError('last words')\n    def step():"),
    "dying": HONEST.replace("def step():", "calls = iter('abc')\n    def step():").replace(
        "print(", "next(calls, None) == 'c' and os._exit(3)\n        print("
    ),
    "sleeping": HONEST.replace("def step():", "time.sleep(60)\n    def step():"),
}


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """A function from names to a registry of peers that need no framework and start at once."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def registry(*names):
        for name in names:
            (tmp_path / f"peer_{name}.py").write_text(SOURCES[name] or HONEST)
        return {"maml_jax": f"peer_{names[0]}"} | {name: f"peer_{name}" for name in names[1:]}

    return registry


def outcomes(registry, patience=60.0, **options):
    records = runner.run([TINY], registry, device="cpu", repeats=2, patience=patience, **options)
    return {record["peer"]: record for record in records}


def test_each_peer_is_timed_or_told_why_not(peers):
    names = ("wrong", "shapeless", "nan", "absent", "missing", "crashing", "dying")
    said = []
    found = outcomes(peers("honest", *names), progress=said.append)
    status = {name: record["status"] for name, record in found.items()}
    assert status == {
        "maml_jax": "measured",
        "wrong": "refused",
        "shapeless": "refused",
        "nan": "refused",
        "absent": "absent",
        "missing": "absent",
        "crashing": "failed",
        "dying": "failed",
    }
    assert all(("seconds" in found[name]) == (status[name] == "measured") for name in found)
    assert "relative error of the gradient 1.0e-05" in found["wrong"]["reason"]
    assert found["absent"]["reason"] == "not today"
    assert found["missing"]["reason"] == "no module named 'no_such_framework'"
    crashed = "exit code 1: ValueError: last words (peer_crashing.py, line "
    assert found["crashing"]["reason"].startswith(crashed)
    assert found["dying"]["reason"].startswith("exit code 3")
    assert any("1/2" in line for line in said)
    json.dumps(found, allow_nan=False)


def test_worker_that_does_not_answer_fails(peers):
    found = outcomes(peers("honest", "sleeping"), patience=2.0)
    assert found["sleeping"]["status"] == "failed"
    assert found["sleeping"]["reason"].startswith("no answer in 2 s")


def test_when_the_time_is_up_the_rest_is_skipped(peers):
    found = outcomes(peers("honest"), seconds=0.0)
    assert found["maml_jax"]["status"] == "skipped"
    assert found["maml_jax"]["reason"] == "the time was up before the first workload"
    found = outcomes(peers("honest", "sleeping"), seconds=3.0)
    assert found["sleeping"]["status"] == "skipped"
    assert found["sleeping"]["reason"].startswith("the time was up, 3 s; no answer in")


def test_what_is_finished_outlives_an_interruption(peers):
    def stop(text):
        if text.startswith("second: maml_jax 1"):
            raise KeyboardInterrupt

    three = [dataclasses.replace(TINY, name=name) for name in ("first", "second", "third")]
    records = runner.run(three, peers("honest"), device="cpu", repeats=2, progress=stop)
    assert [(r["workload"], r["status"]) for r in records] == [
        ("first", "measured"), ("second", "skipped"), ("third", "skipped"),
    ]  # fmt: skip
    assert {r["reason"] for r in records[1:]} == {runner.INTERRUPTED}


def test_a_slow_peer_has_the_first_turns_only(peers, monkeypatch):
    monkeypatch.setattr(runner, "LONG", 0.2)
    monkeypatch.setattr(runner, "LONG_TURNS", 1)
    found = outcomes(peers("honest", "slow"))
    assert len(found["maml_jax"]["seconds"]) == 2
    assert len(found["slow"]["seconds"]) == 1
    assert found["slow"]["median_s"] > 0.3


def test_whole_training_is_timed_per_update_and_checked_by_itself(peers):
    registry = peers("trainer", "wrong_trainer", "honest")
    records = runner.run([TRAINING], registry, device="cpu", repeats=2, patience=60.0)
    found = {record["peer"]: record for record in records}
    assert found["maml_jax"]["status"] == "measured"
    assert 0.05 <= found["maml_jax"]["median_s"] < 0.2  # a step of ten updates takes half a second
    assert found["maml_jax"]["note"] == "as it is"
    assert found["wrong_trainer"]["status"] == "refused"
    assert found["honest"]["status"] == "absent"
    assert found["honest"]["reason"] == "whole training is not written for it"


def test_nobody_is_timed_without_the_reference(peers):
    found = outcomes(peers("crashing", "honest"))
    assert found["honest"]["status"] == "failed"
    assert found["honest"]["reason"] == "maml_jax gave no gradient to compare it with"


@pytest.mark.slow
def test_first_order_is_refused_and_the_rest_measured(monkeypatch):
    """Six processes, each with a framework of its own; the gradients alone are a test of peers."""
    monkeypatch.setenv("PYTHONPATH", __file__.rpartition("/")[0])
    registry = {
        "maml_jax": PEERS["maml_jax"],
        "torch_loop": PEERS["torch_loop"],
        "first_order": "first_order_peer",
    }
    found = outcomes(registry, patience=300.0)
    assert found["first_order"]["status"] == "refused"
    assert found["first_order"]["float64"]["gradient_error"] > 1e-3
    ours, loop = found["maml_jax"], found["torch_loop"]
    assert (ours["status"], loop["status"]) == ("measured", "measured")
    assert loop["float64"]["gradient_error"] < 1e-12
    assert len(loop["seconds"]) == 2
    assert loop["min_s"] <= loop["median_s"] <= loop["max_s"]
    assert loop["ratio_of_medians"] == pytest.approx(loop["median_s"] / ours["median_s"])
    assert loop["memory"]["kind"] in ("resident set", None)


def test_summary():
    assert runner.summary([3.0, 2.0, 8.0], [1.0, 2.0, 2.0]) == {
        "median_s": 3.0,
        "min_s": 2.0,
        "max_s": 8.0,
        "ratio_of_medians": 1.5,
        "median_ratio": 3.0,
    }
    assert runner.summary([1.0], None)["ratio_of_medians"] is None


@pytest.mark.skipif(memory.resident_bytes() is None, reason="no /proc here")
def test_memory_of_a_step_is_seen():
    base = memory.resident_bytes()
    memory.settle()
    np.ones(8_000_000).sum()
    found = memory.report(base, None)
    assert found["peak_bytes"] > memory.resident_bytes() + 50e6
    assert found["growth_bytes"] == found["peak_bytes"] - base


def test_gpu_reports_its_allocator_and_no_proc_says_so():
    assert memory.report(1, 7)["peak_bytes"] == 7
    found = memory.report(None, None)
    assert found["peak_bytes"] is None
    assert "/proc" in found["reason"]


def test_environment_of_a_gpu_worker():
    variables = runner.environment("gpu", "float32", runner.Peer("a"))
    assert variables["JAX_PLATFORMS"] == "cuda"
    assert variables["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert runner.environment("cpu", "float64", runner.Peer("a"))["JAX_ENABLE_X64"] == "1"


def test_kernels_are_chosen_by_timing_where_they_are_timed(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    flags = {
        (device, dtype): runner.environment(device, dtype, runner.Peer("a"))["XLA_FLAGS"]
        for device in ("cpu", "gpu")
        for dtype in ("float32", "float64")
    }
    assert flags.pop(("gpu", "float64")) == "--xla_a=1 --xla_gpu_autotune_level=0"
    assert set(flags.values()) == {"--xla_a=1"}


@pytest.mark.parametrize(
    ("device", "workers", "expected"),
    [("cpu", 4, True), ("cpu", 5, False), ("gpu", 1, False)],
)
def test_who_compiles_side_by_side(device, workers, expected, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    assert runner.at_once(workers, device) is expected


def test_an_earlier_version_is_not_compared_in_the_float32_of_training():
    loss = {"status": "ready", "loss": 1.0}
    answers = {
        "maml_jax": {**loss, "gradient": encode(np.ones(2))},
        "maml_jax_before": {**loss, "gradient": encode(np.zeros(2))},
    }
    for not_compared, status in (((), "refused"), (["maml_jax_before"], "ready")):
        records = {name: {"status": "ready"} for name in answers}
        runner._compare(records, answers, "float32", not_compared)
        assert records["maml_jax_before"]["status"] == status


CHECKOUT = """
import json, os, sys
from maml_jax import GRADIENTS

job = json.loads(sys.stdin.readline())
assert job["module"] == "benchmarks.peers.maml_jax"
times = {"first_call_s": 2.0, "compile_s": 1.0, "second_call_s": 1.0, "calls_per_repeat": 1}
answer = {"status": "ready", "loss": 1.0, "gradient": GRADIENTS[job["dtype"]], **times}
print(json.dumps({**answer, "note": os.environ["MAML_JAX_CACHE"]}), flush=True)
for line in sys.stdin:
    finished = json.loads(line) == "finish"
    print(json.dumps({"memory": {}} if finished else {"seconds": 0.5}), flush=True)
"""


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_another_checkout_takes_part_by_its_own_packages(factor, peers, tmp_path):
    """Its worker gets the same job; its cache is neither the user's nor the new version's."""
    registry = peers("honest")
    noted = HONEST.replace("lambda: None)", 'lambda: None, note=os.environ["MAML_JAX_CACHE"])')
    (tmp_path / "peer_honest.py").write_text(noted)
    inputs = {
        "float64": make_inputs(dataclasses.replace(TINY, tasks=2), runner.SEED, "float64"),
        "float32": make_inputs(TINY, runner.SEED),
    }
    gradients = {dtype: encode(factor * some.query_x.ravel()) for dtype, some in inputs.items()}
    folder = tmp_path / "old"
    for file, source in {
        "maml_jax/__init__.py": f"GRADIENTS = {gradients!r}",
        "benchmarks/__init__.py": "",
        "benchmarks/worker.py": CHECKOUT,
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(source)
    assert runner.package_origin(folder) == folder / "maml_jax" / "__init__.py"
    found = outcomes(registry, before=folder)
    assert list(found) == ["maml_jax", "maml_jax_before"]
    ours, before = found["maml_jax"], found["maml_jax_before"]
    if factor == 1.0:
        assert before["status"] == "measured"
        assert before["seconds"] == [0.5, 0.5]
        assert len({before["note"], ours["note"], os.environ["MAML_JAX_CACHE"]}) == 3
    else:
        assert before["status"] == "refused"
        assert "relative error of the gradient 1.0e-02" in before["reason"]
