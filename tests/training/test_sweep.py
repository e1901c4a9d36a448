"""Runs that train side by side: each is what it would be alone."""

import dataclasses

import numpy as np
import pytest
from small_runs import SMALL, leaves, resumed, trained

import maml_jax as mj
from maml_jax.training import metrics, runs, sweep

CONFIG = dataclasses.replace(SMALL, meta_schedule="constant", updates=4, tasks=3)


def assert_near(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)


@pytest.mark.slow  # it compiles training three times, side by side, alone and resumed
def test_each_run_is_as_if_trained_alone(tmp_path):
    """Three runs on two devices, of two seeds and two rates; one goes on alone."""
    members = sweep.create(CONFIG, tmp_path / "s", (0, 7), (1e-3, 1e-2))[1:]
    ended = sweep.train(members, quiet=True)
    assert [end.how for end in ended] == ["done"] * 3
    assert [member.run.name for member in members] == [
        "meta-lr-0.001-seed-7",
        "meta-lr-0.01-seed-0",
        "meta-lr-0.01-seed-7",
    ]
    for member, end in zip(members, ended, strict=True):
        assert runs.restore(member.run).state.update == 4
        assert_near(runs.restore(member.run).state, end.state)
    _, config, _, state = members[2]
    alone = tmp_path / "alone"
    trained(alone, **{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})
    assert_near(ended[2].state, runs.restore(alone).state)
    assert not np.allclose(ended[2].state.meta["head"]["kernel"], state.meta["head"]["kernel"])
    logs = [metrics.read(run) for run in (members[2].run, alone)]
    assert [entry["update"] for entry in logs[0]] == [entry["update"] for entry in logs[1]]
    assert logs[0][0]["loss"] == pytest.approx(logs[1][0]["loss"], rel=1e-5)
    assert_near(resumed(members[2].run, updates=6).state, resumed(alone, updates=6).state)

    table = sweep.evaluate(members, ended, 5)
    score = runs.evaluate(members[0].run, tasks=5)
    assert table["runs"][0]["loss"] == pytest.approx(score["loss"], rel=1e-5)
    two = [row["loss"] for row in table["runs"][1:]]
    assert table["rates"][1]["loss_mean"] == pytest.approx(sum(two) / 2)
    assert table["rates"][1]["loss_spread"] == pytest.approx(abs(two[0] - two[1]) / 2**0.5)


def test_bad_sweeps_are_refused(tmp_path):
    for seeds, rates, name in (
        ((), (), "seeds"),
        ((1, 1), (), "seeds"),
        ((1,), (2, 2), "meta_lrs"),
    ):
        with pytest.raises(mj.InputError, match=f"`{name}` was .* one or more, each once"):
            sweep.create(CONFIG, tmp_path / "s", seeds, rates)
    with pytest.raises(mj.InputError, match=r"`meta_lr` was -1"):
        sweep.create(CONFIG, tmp_path / "s", (0,), (1e-3, -1.0))
    assert not (tmp_path / "s").exists()
    with pytest.raises(mj.InputError, match=r"`seeds` was -1"):
        sweep.create(CONFIG, tmp_path / "s", (-1,))
    with pytest.raises(mj.InputError, match=r"`out` was .*, which exists"):
        sweep.create(CONFIG, tmp_path, (0,))
    assert list(tmp_path.iterdir()) == []
