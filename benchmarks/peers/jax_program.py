"""From a jitted step to the `Program` that the worker times."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from benchmarks.peers import Program
from benchmarks.workloads import Tree


def jax_program(
    step: Callable[..., Any], *arguments: Any, sharding: NamedSharding | None = None
) -> Program:
    """The program that calls `step(*arguments) -> (loss, gradient)`.

    The arguments are put where `sharding` says, or else on the first device.
    """
    device = jax.devices()[0]
    on_device = jax.device_put(arguments, sharding or device)

    return Program(lambda: jax.block_until_ready(step(*on_device)), result, peak_bytes)


def result(outputs: Any) -> tuple[float, Tree]:
    """`(loss, gradient)` on the host."""
    loss, gradient = outputs
    return float(loss), jax.tree.map(np.asarray, gradient)


def peak_bytes() -> int | None:
    """The most that JAX's allocator held on the first GPU; None on a CPU."""
    device = jax.devices()[0]
    statistics = device.memory_stats() if device.platform == "gpu" else None
    return None if statistics is None else int(statistics["peak_bytes_in_use"])
