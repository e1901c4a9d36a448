"""A run stands alone: loaded, drawn and evaluated on other data without its own."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from small_runs import assert_same_bits, resumed

from maml_jax.cli import main
from maml_jax.data.sets.sinusoid import Sinusoid
from maml_jax.errors import InputError
from maml_jax.training import metrics, provenance, runs
from maml_jax.training.build import build

OLD = Path(__file__).parent / "data" / "run-before-examples"
"""A run made before runs recorded the shape of their examples."""


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(OLD, tmp_path / "old")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_is_loaded_as_a_learner(whole, kind):
    run = runs.load(kind(whole))
    restored = runs.restore(whole)
    assert run.config == restored.config
    assert_same_bits(run.meta, restored.state.meta)
    problem = build(run.config)
    tasks = Sinusoid().tasks("test", ways=2, shots=5, queries=5)
    episode = tasks.sample(None, jax.random.key(1))
    fast, expected = (
        jax.jit(learner.adapt)(run.meta, episode.support)
        for learner in (run.learner, problem.learner)
    )
    assert_same_bits(fast, expected)
    best = runs.load(whole, checkpoint="best").meta
    assert_same_bits(best, runs.restore(whole, checkpoint="best").state.meta)


def test_that_is_no_run_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"`run` was .*none; it must be the folder of a run"):
        runs.load(str(tmp_path / "none"))


def test_a_run_of_before_is_loaded_by_its_data(old):
    run = runs.load(old)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run.meta)]
    assert [leaf.shape for leaf in leaves] == [(1,), (4, 1), (4,), (1, 4)]
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
    assert digest == "d0b124c442a2eebe21d64e6750ef73937363470cda2eb0a7d631810349e40c9e"


def test_a_run_of_before_goes_on(old):
    log = metrics.read(old)
    assert int(resumed(old, updates=14).state.update) == 14
    assert metrics.read(old)[: len(log)] == log
    record = json.loads((old / "config.json").read_text())
    assert record["examples"]["kind"] == "regression"
    assert main(["evaluate", str(old), "--tasks", "5"]) == 0


def test_a_field_that_configs_did_not_have_was_its_default(old):
    record = json.loads((old / "config.json").read_text())
    del record["config"]["warm_up"]
    config = runs.restore(old).config
    provenance.check_config(old, record, config)
    with pytest.raises(InputError, match=r"says warm_up is 3, its checkpoint 0"):
        provenance.check_config(old, record, dataclasses.replace(config, warm_up=3))
