"""A user's network, timed as the built-in ones are: `--workload M:NAME --peer M:NAME`.

Claim: the user's PyTorch step and this project's learner get the same weights and episodes, and the
step gets a time only if its meta-gradient is the learner's: to 1e-6 in float64, on few tasks.
Repeat: docs/benchmark-your-own.md.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.peers import REFERENCE
from benchmarks.workloads import Array, Inputs, NoSuchObjectError, Own, Tree, Workload, find

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
    tasks, shots, queries = _sizes(parser, workload, own)
    for name in peers:
        if not callable(_found(parser, "--peer", name)):
            parser.error(f"argument --peer: was {name!r}; it must be a function")
    network = Own(workload, own.multiply_adds)
    modules = {REFERENCE: "benchmarks.peers.own_jax"}
    modules |= {name: f"benchmarks.peers.own_torch#{name}" for name in peers}
    return [Workload(workload, network, tasks, shots, queries, 0, 0.0)], modules


def _sizes(parser: argparse.ArgumentParser, source: str, own: OwnWorkload) -> tuple[int, int, int]:
    """How many tasks, and support and query examples of each."""
    error = f"argument --workload: the inputs of {source!r}"
    try:
        with redirect_stdout(sys.stderr):  # `--json` has the standard output
            inputs, again = (Inputs(*own.inputs(0)) for _ in range(2))
    except Exception as raised:
        parser.error(
            f"{error} failed: {_told(raised)}; they must be (weights, support_x, support_y, "
            "query_x, query_y)"
        )
    sizes = []
    for name, array in inputs._asdict().items():
        if name == "weights":
            continue
        if not isinstance(array, np.ndarray) or array.ndim < 2:
            parser.error(
                f"{error} had a {type(array).__name__} as {name}; it must be a NumPy array, "
                "[tasks, examples, …]"
            )
        sizes.append(array.shape[:2])
        if not np.array_equal(array, getattr(again, name)):
            parser.error(f"{error} differ from call to call in {name}; a seed must decide them")
    (tasks, shots), (_, queries) = sizes[1], sizes[3]
    if sizes != [(tasks, shots)] * 2 + [(tasks, queries)] * 2:
        parser.error(
            f"{error} had {', '.join(map(str, sizes))} tasks and examples; all must have as many "
            "tasks, and x as many examples as y"
        )
    return tasks, shots, queries


def _found(parser: argparse.ArgumentParser, option: str, source: str) -> Any:
    module = source.partition(":")[0]
    try:
        with redirect_stdout(sys.stderr):
            return find(source)
    except ModuleNotFoundError as error:
        parser.error(f"argument {option}: was {source!r}; no module named {error.name!r}")
    except NoSuchObjectError as error:
        parser.error(f"argument {option}: {error}")
    except Exception as raised:
        parser.error(f"argument {option}: importing {module!r} failed: {_told(raised)}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".rstrip(": ")
