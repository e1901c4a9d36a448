"""Cells whose JAX program is compiled once, whatever it is compared with."""

import functools

from parity.backends import run_jax, run_torch, starting_point
from parity.cells import COMPARISONS, build_inputs
from parity.compare import measure


@functools.cache
def jax_results(cell, seed=0):
    """What JAX computes for a cell, and where it started from."""
    params, apply, episodes = build_inputs(cell, seed)
    learner = cell.learner(apply)
    meta = starting_point(learner, params, seed)
    return meta, episodes, run_jax(cell, learner, meta, episodes)


def errors_against(cell, reference=None, seed=0):
    """As `parity.compare.compare` with this reference."""
    meta, episodes, of_jax = jax_results(cell, seed)
    reference = reference or COMPARISONS[cell.algorithm].reference
    return measure(cell, of_jax, run_torch(cell, reference, meta, episodes))
