"""The learner of a user's own workload, by `mj.over_tasks`.

Repeat: docs/benchmark-your-own.md.
"""

from benchmarks.peers import Program
from benchmarks.peers.maml_jax import meta_gradient_program
from benchmarks.workloads import Inputs, Own, Workload, find


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program; the runner has chosen the device through `JAX_PLATFORMS`."""
    del device
    assert isinstance(workload.network, Own)  # noqa: S101 - `own.chosen` made it
    return meta_gradient_program(find(workload.network.source).learner(), workload, inputs)
