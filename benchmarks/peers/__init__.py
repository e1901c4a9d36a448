"""Who takes part. A peer is one file here with a function `prepare`, and one line of `PEERS`.

Claim: each is written as its framework's users would write it, and computes the same number. The
runner checks the second before it times anything; to check the first, read the file.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from benchmarks.workloads import Inputs, Tree, Workload

REFERENCE = "maml_jax"
"""The peer whose gradient the others must match, and by whose time theirs are divided."""

PEERS = {
    REFERENCE: "benchmarks.peers.maml_jax",
    "torch_loop": "benchmarks.peers.torch_loop",
    "torch_func": "benchmarks.peers.torch_func",
    "obvious_jax": "benchmarks.peers.obvious_jax",
}
ON_REQUEST = ("obvious_jax",)
"""Peers that run only when named, for they take many times longer than all the rest."""


class Program(NamedTuple):
    """One meta-gradient, ready to be computed again and again."""

    step: Callable[[], Any]
    """Compute it; whatever runs on a device has finished when this returns."""
    result: Callable[[Any], tuple[float, Tree]]
    """What `step` returned, as the mean loss and the meta-gradient in the layout of the inputs."""
    peak_bytes: Callable[[], int | None]
    """The peak of the framework's allocator on a GPU since the process began; None on a CPU."""


Prepare: TypeAlias = Callable[[Workload, Inputs, str], Program]
"""`prepare(workload, inputs, device) -> program`, `device` being "cpu" or "gpu"."""


class AbsentError(Exception):
    """This peer cannot take part in this workload on this machine, and why."""
