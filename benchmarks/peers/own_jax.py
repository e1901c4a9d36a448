"""The learner of a user's own workload, by `mj.over_tasks`.

Repeat: docs/benchmark-your-own.md.
"""

from typing import Any

import jax

from benchmarks.peers import Program, RefusedError
from benchmarks.peers.maml_jax import meta_gradient_program
from benchmarks.workloads import Inputs, Own, Workload, find


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program; the runner has chosen the device through `JAX_PLATFORMS`."""
    del device
    assert isinstance(workload.network, Own)  # noqa: S101 - `own.chosen` made it
    learner = find(workload.network.source).learner()
    meta = jax.eval_shape(learner.init, inputs.weights)
    if wrong := _names(meta) ^ _names(inputs.weights):
        raise RefusedError(
            "the learner's meta-parameters must be the weights of `inputs`; they differ in "
            + ", ".join(sorted(wrong))
        )
    return meta_gradient_program(learner, workload, inputs)


def _names(tree: Any) -> set[str]:
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
