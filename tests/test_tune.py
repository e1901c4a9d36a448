"""The measured number of tasks to compute together: measuring, remembering, taking it."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import classification, distance, perceptron

import maml_jax as mj
from maml_jax.batching import plans
from maml_jax.errors import InputError

tuning = sys.modules["maml_jax.batching.tune"]  # `mj.tune` is the function
params, apply = perceptron()
TASKS = classification(tasks=6)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder that does not exist yet, and a rule that takes tasks one by one."""
    monkeypatch.setattr(plans, "CACHE", 1)
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fastest(monkeypatch, chunk):
    """Let that chunk be the fastest whatever the clock says."""
    monkeypatch.setattr(tuning, "_time", lambda step, arguments, limit: next(times))
    times = iter(1.0 if size == chunk else 1.2 for size in tuning.candidates(6, 1))
    monkeypatch.setattr(tuning, "in_turns", lambda steps, rounds: {1: 1.2, chunk: 1.0})


def scans(learner, tasks=TASKS, chunk=None, mesh=None):
    """The lengths of the loops over chunks that `over_tasks` makes."""
    program = jax.make_jaxpr(mj.over_tasks(learner, chunk, mesh))(learner.init(params), tasks)
    if mesh is not None:
        (mapped,) = (e for e in program.eqns if e.primitive.name == "shard_map")
        program = mapped.params["jaxpr"]
    return [e.params["length"] for e in program.eqns if e.primitive.name == "scan"]


def test_over_tasks_takes_what_was_measured(monkeypatch, cache):
    learner = mj.maml(apply, 0.1)
    assert scans(learner) == [6]  # the rule on a CPU: one by one
    fastest(monkeypatch, 2)
    plan = mj.tune(learner, params, TASKS)
    assert plan.seconds == {1: 1.2, 2: 1.0, 4: 1.2, 6: 1.2}
    assert (plan.chunk, plan.rule, plan.file) == (2, 1, cache / "plans.json")
    assert str(plan) == "2 tasks together, 1e+03 ms a step, against 1.2e+03 ms by the rule (1)"
    assert scans(learner) == [3]
    assert scans(mj.maml(apply, 0.1)) == [3]  # the same program, made anew
    assert scans(learner, chunk=3) == [2]


def test_results_are_the_same_to_rounding(monkeypatch, x64):
    params, apply = perceptron()  # in the precision of this test
    learner, tasks = mj.maml(apply, 0.1, 2), classification(tasks=5)
    before = jax.jit(mj.over_tasks(learner))(params, tasks)
    monkeypatch.setattr(tuning, "candidates", lambda tasks, rule: [3])
    plan = mj.tune(learner, params, tasks)
    assert plan.chunk == 3
    assert "the rule's 1 did not fit" in str(plan)
    after = jax.jit(mj.over_tasks(learner))(params, tasks)
    assert distance(after, before) < 1e-14


def test_another_problem_has_no_such_plan(monkeypatch):
    fastest(monkeypatch, 2)
    mj.tune(mj.maml(apply, 0.1), params, TASKS)
    assert scans(mj.maml(apply, 0.1)) == [3]
    for other in (mj.maml(apply, 0.1, 2), mj.fomaml(apply, 0.1), mj.reptile(apply, 0.1)):
        assert scans(other) == [6]
    assert scans(mj.maml(apply, 0.1), classification(tasks=6, queries=1)) == [6]
    assert scans(mj.maml(apply, 0.1), classification(tasks=4)) == [4]
    mesh = jax.make_mesh((2,), ("tasks",), (jax.sharding.AxisType.Auto,))
    assert scans(mj.maml(apply, 0.1), mesh=mesh) == [3]  # three tasks on each device, one by one
    monkeypatch.setattr(jax, "__version__", "0.0.0")
    assert scans(mj.maml(apply, 0.1)) == [6]


def repeating(times):
    """The network with a loop that keeps nothing, and so shows in nothing but its length."""

    def looped(params, x):
        return apply(params, jax.lax.fori_loop(0, times, lambda _, x: x * 0.9, x))

    return looped


@pytest.mark.parametrize(
    "make",
    [
        lambda n: mj.imaml(apply, 0.1, solver_steps=n),
        lambda n: mj.protonet(repeating(n)),
        lambda n: mj.fomaml(apply, 0.1, n),
    ],
)
def test_a_longer_loop_is_another_problem(make):
    keys = [plans.key(make(n), make(n).init(params), TASKS, 1) for n in (2, 3, 2)]
    assert keys[0] == keys[2] != keys[1]


def test_another_rate_is_the_same_problem():
    one, other = (plans.key(mj.maml(apply, rate), params, TASKS, 1) for rate in (0.1, 0.4))
    assert one == other


@pytest.mark.parametrize("count", [7, 8])
def test_on_a_mesh_the_plan_is_a_devices(monkeypatch, count):
    learner, tasks = mj.maml(apply, 0.1), classification(tasks=count)
    mesh = mj.task_mesh(count)
    assert mesh.shape["tasks"] == 2
    monkeypatch.setattr(tuning, "candidates", lambda tasks, rule: [2] if tasks == 4 else [])
    assert mj.tune(learner, params, tasks, mesh).chunk == 2
    assert scans(learner, tasks, mesh=mesh) == [2]
    assert scans(learner, tasks) == [count]
    assert scans(learner, classification(tasks=4)) == [4]  # as many for a device, but it is alone
    jax.jit(mj.over_tasks(learner, mesh=mesh))(params, tasks)


def test_it_is_measured_once(monkeypatch):
    learner = mj.maml(apply, 0.1)
    first = mj.tune(learner, params, TASKS)
    assert set(first.seconds) <= {1, 2, 4, 6}
    assert all(time > 0 for time in first.seconds.values())
    monkeypatch.setattr(tuning, "search", lambda *_: {4: 1.0})
    assert mj.tune(learner, params, TASKS) == first
    assert mj.tune(learner, params, TASKS, again=True).chunk == 4
    assert mj.tune(learner, params, TASKS).seconds == {4: 1.0}


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"KEY": 3}', '{"KEY": {"chunk": 2}}', "\udcff"]
)
def test_a_damaged_file_is_ignored_and_rewritten(text, monkeypatch, cache):
    learner = mj.maml(apply, 0.1)
    cache.mkdir()
    key = plans.key(learner, params, TASKS, 1)
    (cache / "plans.json").write_bytes(text.replace("KEY", key).encode(errors="surrogateescape"))
    assert scans(learner) == [6]
    fastest(monkeypatch, 2)
    assert mj.tune(learner, params, TASKS).chunk == 2
    assert scans(learner) == [3]
    assert list(cache.iterdir()) == [cache / "plans.json"]


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True, "2", None])
def test_a_damaged_plan_is_ignored(chunk, cache):
    learner = mj.maml(apply, 0.1)
    entry = {"chunk": chunk, "rule": 1, "seconds": {"2": 1.0}}
    cache.mkdir()
    file = cache / "plans.json"
    file.write_text(json.dumps({plans.key(learner, params, TASKS, 1): entry}))
    assert scans(learner) == [6]
    file.write_text(json.dumps({plans.key(learner, params, TASKS, 1): {**entry, "chunk": 2}}))
    assert scans(learner) == [3]


def test_plans_of_other_problems_are_kept():
    for steps in (1, 2):
        mj.tune(mj.maml(apply, 0.1, steps), params, TASKS)
    assert len(json.loads(plans.cache_file().read_text())) == 2


def test_a_folder_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "file"))
    learner = mj.maml(apply, 0.1)
    assert mj.tune(learner, params, TASKS).file is None
    assert scans(learner) == [6]


def test_where_the_file_is(monkeypatch):
    monkeypatch.setenv("MAML_JAX_CACHE", "/a/b")
    assert plans.cache_file() == Path("/a/b/plans.json")
    monkeypatch.delenv("MAML_JAX_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert plans.cache_file() == Path("/c/maml-jax/plans.json")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert plans.cache_file() == Path("/h/.cache/maml-jax/plans.json")


def test_the_key_is_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import jax\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"
        "from problems import classification, perceptron\n"
        "import maml_jax as mj; from maml_jax import plans\n"
        "params, apply = perceptron()\n"
        "print(plans.key(mj.maml(apply, 0.1, 3), params, classification(tasks=6), 1))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == plans.key(mj.maml(apply, 0.1, 3), params, TASKS, 1)


def search(times, chunks=(1, 2, 4, 8, 16), budget_s=60.0):
    return tuning.search(list(chunks), lambda chunk, _: times[chunk], budget_s)


def test_the_search_ends_when_two_in_a_row_are_clearly_slower():
    assert list(search({1: 1.0, 2: 1.6, 4: 0.9, 8: 1.4, 16: 1.6})) == [1, 2, 4, 8, 16]
    assert list(search({1: 1.0, 2: 1.6, 4: 1.6, 8: 0.1, 16: 0.1})) == [1, 2, 4]
    assert list(search({1: 1.0, 2: 1.4, 4: 1.4, 8: 1.4, 16: 1.4})) == [1, 2, 4, 8, 16]


def test_the_search_has_a_budget_and_measures_at_least_one():
    assert list(search(dict.fromkeys((1, 2, 4, 8, 16), 1.0), budget_s=0.0)) == [1]


def test_what_does_not_fit_in_memory_is_passed_over():
    times = {16: None, 8: None, 4: 1.0, 2: 1.1, 1: 1.2}
    assert search(times, (16, 8, 4, 2, 1)) == {4: 1.0, 2: 1.1, 1: 1.2}

    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    assert tuning._time(exhausted, (), 1.0) is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        tuning._time(broken, (), 1.0)


def test_a_slow_chunk_is_not_repeated():
    calls = []
    tuning._time(lambda: calls.append(1), (), limit=0.0)
    assert len(calls) == 2  # the first compiles
    tuning._time(lambda: calls.append(1), (), limit=60.0)
    assert len(calls) == 2 + 1 + tuning.REPEATS


def test_the_last_two_take_turns(monkeypatch):
    """What a machine that was busy at first makes slow is not held against it."""
    learner = mj.maml(apply, 0.1)
    monkeypatch.setattr(tuning, "search", lambda chunks, measure, budget_s: search_real(measure))
    turns = []

    def search_real(measure):
        return {chunk: 9.0 / chunk + 0 * measure(chunk, 0.0) for chunk in (1, 2)}

    def in_turns(steps, rounds):
        turns.append((list(steps), rounds))
        assert all(distance(step(), steps[1]()) < 1e-6 for step in steps.values())
        return {1: 1.0, 2: 1.0}

    monkeypatch.setattr(tuning, "in_turns", in_turns)
    plan = mj.tune(learner, params, TASKS, budget_s=27.0)
    assert turns == [([1, 2], 2.0)]
    assert (plan.chunk, plan.seconds) == (1, {1: 1.0, 2: 1.0})


def test_in_turns():
    calls = []
    steps = {chunk: lambda chunk=chunk: calls.append(chunk) for chunk in (1, 4)}
    assert set(tuning.in_turns(steps, 3.7)) == {1, 4}
    assert calls == [1, 4] * 3
    tuning.in_turns(steps, 0.1)
    assert calls == [1, 4] * 4


def test_the_rule_fills_a_cpus_cache(monkeypatch):
    params = {"w": np.zeros(100, np.float32)}
    episodes = mj.Episode(mj.Batch(np.zeros((6, 3), np.float32), np.zeros((6, 5), np.float32)), ())
    monkeypatch.setattr(plans, "CACHE", 1000)
    assert plans.rule(params, episodes) == 2  # of 400 + 12 + 20 bytes each
    assert plans.rule(params, episodes, devices=6) == 1
    assert plans.rule(params, episodes, devices=4) == 2  # the largest share
    monkeypatch.setattr(plans, "CACHE", 100)
    assert plans.rule(params, episodes) == 1
    monkeypatch.setattr(plans, "CACHE", 10**6)
    assert plans.rule(params, episodes) == 6
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert plans.rule(params, episodes, devices=2) == 3
    assert plans.rule(params, episodes, devices=4) == 2


def test_candidates():
    assert tuning.candidates(25, 6) == [6, 8, 4, 16, 2, 25, 1]
    assert tuning.candidates(6, 1) == [1, 2, 4, 6]
    assert tuning.candidates(8, 8) == [8, 4, 2, 1]
    assert tuning.candidates(1, 1) == [1]


def test_the_rule_wins_where_the_clock_cannot_tell():
    assert tuning._choice({1: 1.0, 2: 0.98}, 1) == 1
    assert tuning._choice({1: 1.0, 2: 0.9}, 1) == 2
    assert tuning._choice({2: 1.0, 4: 0.99}, 8) == 4


def test_several_processes_share_no_plan(monkeypatch):
    learner = mj.maml(apply, 0.1)
    fastest(monkeypatch, 2)
    mj.tune(learner, params, TASKS)
    assert scans(learner) == [3]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert scans(learner) == [6]
    with pytest.raises(InputError, match="`tune` ran in 2 processes"):
        mj.tune(learner, params, TASKS)


def test_nothing_fits(monkeypatch):
    monkeypatch.setattr(tuning, "search", lambda *_: {})
    with pytest.raises(InputError, match="`episodes` held 6 tasks; not even one fits in memory"):
        mj.tune(mj.maml(apply, 0.1), params, TASKS)


def test_bad_arguments():
    learner = mj.maml(apply, 0.1)
    with pytest.raises(InputError, match=r"`budget_s` was -1; it must be a finite number"):
        mj.tune(learner, params, TASKS, budget_s=-1)
