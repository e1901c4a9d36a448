"""The peers: each is one file here with a function `prepare`, and one line of `PEERS`.

Claim: each is written as its framework's users would write it, and computes the same gradient. The
runner checks the second before it times anything; to check the first, read the file.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from benchmarks.workloads import Inputs, Tree, Workload

REFERENCE = "maml_jax"
"""The peer whose gradient the others must match, and by whose time theirs are divided."""

BEFORE = "maml_jax_before"
"""The reference as it is in another checkout of this project (`--before`)."""

PEERS = {
    REFERENCE: "benchmarks.peers.maml_jax",
    "torch_loop": "benchmarks.peers.torch_loop",
    "torch_func": "benchmarks.peers.torch_func",
    "torch_compile": "benchmarks.peers.torch_compile",
    "higher": "benchmarks.peers.higher_loop",
    "torchopt": "benchmarks.peers.torchopt_loop",
    "obvious_jax": "benchmarks.peers.obvious_jax",
    "maml_jax_tuned": "benchmarks.peers.maml_jax_tuned",
    "maml_jax_tf32": "benchmarks.peers.maml_jax_tf32",
    "maml_jax_bf16": "benchmarks.peers.maml_jax_bf16",
    "torch_func_tf32": "benchmarks.peers.torch_func_tf32",
    "maml_jax_patches": "benchmarks.peers.maml_jax_patches",
    "maml_jax_taps": "benchmarks.peers.maml_jax_taps",
    "maml_jax_grouped": "benchmarks.peers.maml_jax_grouped",
}
SLOW = ("torch_compile", "obvious_jax", "maml_jax_tuned")
"""Peers that `--quick` leaves out: they take minutes to compile, to tune or to run."""
LOWER_PRECISION = ("maml_jax_tf32", "maml_jax_bf16", "torch_func_tf32")
"""Peers in the lower precisions of accelerators; a CPU leaves them out unless they are named."""
FORMS = ("maml_jax_patches", "maml_jax_taps", "maml_jax_grouped")
"""This project with one form of the convolution; left out unless they are named."""

META_LR = 1e-3
"""Adam's rate in the workloads of whole training."""
CHECKED_UPDATES = 2
"""How many updates of training are made before the weights are compared."""
CHECKED_EPS = {"float64": 1e-8, "float32": 1.0}
"""Adam's `eps` in what is checked; what is timed has 1e-8. Its first updates are the gradients'
signs, and rounding decides the sign of a gradient near zero. With an `eps` of 1 they are as the
gradients, so that float32 and less can be compared; float64 has the digits to compare what is
timed as it is."""


class Program(NamedTuple):
    """One meta-gradient, or some updates of training, ready to be computed again and again."""

    step: Callable[[], Any]
    """Compute it; whatever runs on a device has finished when this returns."""
    result: Callable[[Any], tuple[float, Tree]]
    """What `check` or else `step` returned, as the mean loss and the meta-gradient (of training the
    change of the weights) in the layout of the inputs."""
    peak_bytes: Callable[[], int | None]
    """The peak of the framework's allocator on a GPU since the process began; None on a CPU."""
    check: Callable[[], Any] | None = None
    """What to compare instead of the step's result, where the step draws its own tasks."""
    note: str | None = None
    """For the record: anything particular about how it is computed."""


Prepare: TypeAlias = Callable[[Workload, Inputs, str], Program]
"""`prepare(workload, inputs, device) -> program`, `device` being "cpu" or "gpu". A peer that takes
part in whole training has a function `prepare_training` of the same kind."""


class AbsentError(Exception):
    """This peer cannot take part in this workload on this machine, and why."""


class RefusedError(Exception):
    """What this peer computes is no meta-gradient to be compared, and why."""
