"""Measuring how many tasks to compute together."""

import sys

import jax
import pytest
from problems import all_but_slow, classification, distance, perceptron

import maml_jax as mj
from maml_jax.errors import InputError

tuning = sys.modules["maml_jax.batching.tune"]  # `mj.tune` is the function
params, apply = perceptron()
TASKS = classification(tasks=6)


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch):
    """A default that takes tasks one by one."""
    module = sys.modules["maml_jax.batching.over_tasks"]
    monkeypatch.setattr(module, "FAST_MEMORY", {"cpu": module.FastMemory(1, 1, 1)})


def fastest(monkeypatch, chunk):
    """Let that chunk be the fastest whatever the clock says."""
    times = iter(1.0 if size == chunk else 1.2 for size in tuning.candidates(6, 1))
    monkeypatch.setattr(tuning, "_time", lambda step, arguments, limit: next(times))
    monkeypatch.setattr(tuning, "in_turns", lambda steps, rounds: {1: 1.2, chunk: 1.0})


def test_the_plan_says_what_was_measured(monkeypatch):
    fastest(monkeypatch, 2)
    plan = mj.tune(mj.maml(apply, 0.1), params, TASKS)
    assert plan == mj.Plan(2, 1, {1: 1.2, 2: 1.0, 4: 1.2, 6: 1.2})
    assert str(plan) == "2 tasks together, 1e+03 ms a step, against 1.2e+03 ms by default (1)"


def test_nothing_is_stored(monkeypatch, tmp_path):
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path))
    fastest(monkeypatch, 2)
    mj.tune(mj.maml(apply, 0.1), params, TASKS)
    assert not list(tmp_path.iterdir())
    fastest(monkeypatch, 4)
    assert mj.tune(mj.maml(apply, 0.1), params, TASKS).chunk == 4


def test_it_really_measures():
    plan = mj.tune(mj.maml(apply, 0.1), params, TASKS)
    assert set(plan.seconds) <= {1, 2, 4, 6}
    assert plan.chunk in plan.seconds
    assert all(time > 0 for time in plan.seconds.values())


@pytest.mark.parametrize("count", all_but_slow([7, 8], 7))
def test_on_a_mesh_the_plan_is_for_the_tasks_of_a_device(monkeypatch, count):
    learner, tasks = mj.maml(apply, 0.1), classification(tasks=count)
    mesh = mj.task_mesh(count)
    assert mesh.shape["tasks"] == 2
    monkeypatch.setattr(tuning, "candidates", lambda tasks, default: [2] if tasks == 4 else [])
    assert mj.tune(learner, params, tasks, mesh).chunk == 2


def test_a_default_that_did_not_fit_is_told():
    assert "the default, 8, did not fit" in str(mj.Plan(2, 8, {2: 1.0}))
    assert "is the fastest measured (alone)" in str(mj.Plan(2, 2, {2: 1.0}))


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


def test_candidates():
    assert tuning.candidates(25, 6) == [6, 8, 4, 16, 2, 25, 1]
    assert tuning.candidates(6, 1) == [1, 2, 4, 6]
    assert tuning.candidates(8, 8) == [8, 4, 2, 1]
    assert tuning.candidates(1, 1) == [1]


def test_the_default_wins_where_the_clock_cannot_tell():
    assert tuning._choice({1: 1.0, 2: 0.98}, 1) == 1
    assert tuning._choice({1: 1.0, 2: 0.9}, 1) == 2
    assert tuning._choice({2: 1.0, 4: 0.99}, 8) == 4


def test_several_processes_do_not_measure(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="`tune` ran in 2 processes"):
        mj.tune(mj.maml(apply, 0.1), params, TASKS)


def test_nothing_fits(monkeypatch):
    monkeypatch.setattr(tuning, "search", lambda *_: {})
    with pytest.raises(InputError, match="`episodes` held 6 tasks; not even one fits in memory"):
        mj.tune(mj.maml(apply, 0.1), params, TASKS)


def test_bad_arguments():
    learner = mj.maml(apply, 0.1)
    with pytest.raises(InputError, match=r"`budget_s` was -1; it must be a finite number"):
        mj.tune(learner, params, TASKS, budget_s=-1)
