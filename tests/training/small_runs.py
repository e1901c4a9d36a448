"""Runs of the smallest size, which the tests of training share."""

import dataclasses

import jax
import numpy as np

from maml_jax.training import runs
from maml_jax.training.recipes import recipe
from maml_jax.training.recorder import train_run

SMALL = dataclasses.replace(
    recipe("sinusoid"),
    hidden=(4,),
    tasks=2,
    updates=12,
    updates_per_dispatch=2,
    validate_every=4,
    validation_tasks=5,
    checkpoint_every=2,
)


def trained(run, **changes):
    config = dataclasses.replace(SMALL, **changes)
    config, problem, state = runs.create(config, run)
    return train_run(config, run, problem, state, quiet=True)


def resumed(run, **changes):
    with runs.locked(run):
        config, problem, state = runs.resume(run, **changes)
        return train_run(config, run, problem, state, quiet=True)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
