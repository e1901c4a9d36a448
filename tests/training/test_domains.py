"""Training on data that stays on the host, and testing on other domains."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import maml_jax.training.prefetch
from maml_jax.cli import main
from maml_jax.training import metrics, runs
from maml_jax.training.build import load_data
from maml_jax.training.evaluate import evaluation_key, keys_of_tasks
from maml_jax.training.recipes import recipe
from maml_jax.training.recorder import train_run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty classes of eight noisy pictures each, 12×12 in colour, as arrays."""
    rng = np.random.default_rng(0)
    ideals = rng.integers(0, 256, (20, 1, 12, 12, 3))
    images = np.clip(ideals + rng.normal(0, 40, (20, 8, 12, 12, 3)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "noise.npz"
    np.savez(path, images=images.reshape(-1, 12, 12, 3), labels=np.repeat(np.arange(20), 8))
    return path


def config(pictures, **changes):
    small = dataclasses.replace(
        recipe("quickstart"),
        data=str(pictures),
        ways=3,
        model="article-cnn",  # without batch norm, before which biases follow rounding alone
        inner_lr=0.1,
        tasks=4,
        updates=10,
        updates_per_dispatch=5,
        validate_every=5,
        validation_tasks=10,
        checkpoint_every=5,
        evaluation_steps=1,
    )
    return dataclasses.replace(small, **changes)


@pytest.mark.slow  # two whole trainings
def test_fetching_changes_nothing_but_where_the_data_is(pictures, tmp_path, monkeypatch):
    # In Winograd's form a gradient that is all but zero follows its neighbours' rounding, which
    # differs between the programs, and Adam makes steps of it.
    monkeypatch.setattr("maml_jax.kernels.convolution.register", lambda *_: None)
    states, logs = [], []
    # A block holds one update, three, or more than there are; validation fetches as well.
    one = 4 * 3 * 2 * 12 * 12 * 3
    for limit, block in ((None, 1), (0.0, 1), (0.0, 3 * one), (0.0, 100 * one)):
        monkeypatch.setattr(maml_jax.training.prefetch, "BLOCK_BYTES", block)
        run = tmp_path / str(len(states))
        chosen = config(pictures, in_memory_gb=limit)
        chosen, problem, state = runs.create(chosen, run)
        fetched = problem.data.tasks("train", ways=3, shots=1, queries=1).load is not None
        assert fetched is (limit is not None)
        states.append(train_run(chosen, run, problem, state, quiet=True).state)
        logs.append(metrics.read(run))
    for state, log in zip(states[1:], logs[1:], strict=True):
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(states[0]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert [entry["update"] for entry in log] == [entry["update"] for entry in logs[0]]
        for entry, first in zip(log, logs[0], strict=True):
            if "loss" in entry:
                assert entry["loss"] == pytest.approx(first["loss"], rel=1e-5)
            else:
                expected = first["validation"]["accuracy"]
                assert entry["validation"]["accuracy"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow  # three trainings
def test_a_run_on_fetched_data_resumes_in_the_same_bits(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(maml_jax.training.prefetch, "BLOCK_BYTES", 3 * 4 * 3 * 2 * 12 * 12 * 3)
    whole = config(pictures, in_memory_gb=0.0)
    whole, problem, state = runs.create(whole, tmp_path / "whole")
    expected = train_run(whole, tmp_path / "whole", problem, state, quiet=True).state
    half = config(pictures, in_memory_gb=0.0, updates=10)
    half, problem, state = runs.create(half, tmp_path / "half")
    append = metrics.Log.append

    def fail_after_five(log, entry):
        append(log, entry)
        if entry["update"] == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(metrics.Log, "append", fail_after_five)
    with pytest.raises(KeyboardInterrupt):
        train_run(half, tmp_path / "half", problem, state, quiet=True)
    monkeypatch.setattr(metrics.Log, "append", append)
    resumed, problem, state = runs.resume(tmp_path / "half")
    assert int(state.update) == 5
    found = train_run(resumed, tmp_path / "half", problem, state, quiet=True).state
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    """A model for 12×12 in colour."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    chosen = config(pictures)
    chosen, problem, state = runs.create(chosen, folder)
    train_run(chosen, folder, problem, state, quiet=True)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another domain: six classes, grey, 20×20."""
    path = tmp_path_factory.mktemp("other") / "grey.npz"
    images = np.random.default_rng(1).integers(0, 256, (36, 20, 20), np.uint8)
    np.savez(path, images=images, labels=np.repeat(np.arange(6), 6))
    return path


def test_another_domain_is_one_flag(run, other, capsys):
    command = ["evaluate", str(run), "--data", str(other), "--tasks", "20", "--queries", "4"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["data"] == str(other)
    assert result["split"] == "all"
    assert 0 <= result["accuracy"] <= 1
    # Noise cannot be told apart: chance is a third, within the interval of 20 tasks.
    assert abs(result["accuracy"] - 1 / 3) < 0.15
    # Its own data are another matter: the same classes, seen from noisy pictures.
    assert main([*command[:2], "--tasks", "20", "--queries", "4", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["split"] == "test"
    assert own["nearest_neighbour"]["accuracy"] > 0.9


def test_fewer_ways_take_the_first_outputs_of_the_head(run):
    found = runs.evaluate(run, ways=2, tasks=6, queries=3, steps=1, per_step=False, seed=5)
    assert (found["ways"], found["tasks"]) == (2, 6)
    restored = runs.restore(run)
    source = load_data(restored.config).tasks("test", ways=2, shots=1, queries=3)
    right = []
    for key in keys_of_tasks(evaluation_key(5), 6)[:6]:
        episode = source.sample(source.store, key)
        fast = restored.learner.adapt(restored.state.meta, episode.support, 1)
        logits = restored.learner.predict(fast, episode.query.x)
        assert logits.shape == (6, 3)
        right.append(np.asarray(logits[:, :2].argmax(-1) == episode.query.y))
    assert found["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)


@pytest.mark.parametrize("ways", [1, 4])
def test_ways_are_no_more_than_the_head_has(run, ways):
    with pytest.raises(ValueError, match=f"`ways` was {ways}"):
        runs.evaluate(run, ways=ways, tasks=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sinusoid", "`data` was 'sinusoid', whose examples are"),
        ("sequences", "`data` was 'sequences', whose examples are"),
        ("glyhps", "did you mean 'glyphs'"),
    ],
)
def test_domains_that_do_not_fit_are_refused(run, name, message):
    with pytest.raises(ValueError, match=message):
        runs.evaluate(run, data=name, tasks=2)


def test_the_best_checkpoint_is_evaluated_where_asked(run):
    latest, best = (
        runs.evaluate(run, tasks=5, queries=2, checkpoint=which) for which in ("latest", "best")
    )
    assert latest["updates"] == 10
    assert best["updates"] in (5, 10)
