"""A user's network, timed as the built-in ones are: `--workload M:NAME --peer M:NAME`.

Claim: the user's PyTorch step and this project's learner get the same weights and episodes, and the
step gets a time only if its meta-gradient is the learner's: to 1e-6 in float64, on few tasks.
Repeat: docs/benchmark-your-own.md.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.peers import REFERENCE
from benchmarks.workloads import Array, Inputs, Own, Tree, Workload, find

if TYPE_CHECKING:
    from maml_jax.types import MetaLearner


class OwnWorkload(NamedTuple):
    """What `--workload` names. Its module is imported by PyTorch's process too: not JAX with it."""

    inputs: Callable[[int], tuple[Tree, Array, Array, Array, Array]]
    """`inputs(seed) -> (weights, support_x, support_y, query_x, query_y)`, of NumPy in float32:
    weights as nested dicts of `kernel`, `bias` and `scale`, episodes `[tasks, examples, …]`."""
    learner: "Callable[[], MetaLearner]"
    """Makes the learner in JAX, whose meta-parameters are these weights."""
    multiply_adds: int = 0
    """Of one meta-gradient, for the floor (`benchmarks.floor` says how they are counted)."""


def chosen(
    parser: argparse.ArgumentParser, workload: str, peers: list[str]
) -> tuple[list[Workload], dict[str, str]]:
    """The workload and the modules of its peers, by name; an error of the parser for bad ones."""
    own = _found(parser, "--workload", workload)
    if not isinstance(own, OwnWorkload):
        parser.error(f"argument --workload: was {workload!r}; it must be an own.OwnWorkload")
    try:
        inputs = Inputs(*own.inputs(0))
        tasks, shots = np.shape(inputs.support_y)[:2]
        queries = np.shape(inputs.query_y)[1]
    except (TypeError, ValueError, IndexError) as error:
        parser.error(
            f"argument --workload: {workload!r} made no inputs: {error}; they must be (weights, "
            "support_x, support_y, query_x, query_y), each [tasks, examples, …]"
        )
    for name in peers:
        if not callable(_found(parser, "--peer", name)):
            parser.error(f"argument --peer: was {name!r}; it must be a function")
    network = Own(workload, own.multiply_adds)
    modules = {REFERENCE: "benchmarks.peers.own_jax"}
    modules |= {name: f"benchmarks.peers.own_torch#{name}" for name in peers}
    return [Workload(workload, network, tasks, shots, queries, 0, 0.0)], modules


def _found(parser: argparse.ArgumentParser, option: str, source: str) -> Any:
    try:
        return find(source)
    except ModuleNotFoundError as error:
        parser.error(f"argument {option}: was {source!r}; no module named {error.name!r}")
    except ValueError as error:
        parser.error(f"argument {option}: {error}")
