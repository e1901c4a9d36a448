"""One call from a PyTorch meta-gradient to a verdict."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from maml_jax.errors import InputError
from maml_jax.exchange import Flattened
from parity.catalogue import Catalogue
from parity.conversion import tasks_to_torch, to_flax, to_torch
from parity.diagnosis import Diagnosis, diagnose
from parity.problem import Problem
from parity.torch_tools import Task, Weights

TorchFunction: TypeAlias = Callable[[Weights, list[Task]], Mapping[str, Tensor | None]]
"""`torch_function(weights, tasks) -> {name: meta-gradient}`."""


def check(
    torch_function: TorchFunction,
    problem: Problem,
    *,
    flattened: Flattened | None = None,
    rounding: float | None = None,
    catalogue: Catalogue | None = None,
) -> Diagnosis:
    """Run a PyTorch meta-learner on a problem, and say whether its meta-gradient is that of MAML.

    Args:
      torch_function: `torch_function(weights, tasks)`, with the weights as PyTorch names and lays
        them out (float64, not yet requiring a gradient) and `Task`s of tensors with channels
        first, returns the mean meta-gradient over tasks by the same names. None counts as zero.
      problem: network, weights, tasks, and how to adapt.
      flattened: the dense layers behind a flattened image, `{"head": (height, width, channels)}`.
      rounding: as in `diagnose`.
      catalogue: as in `diagnose`.

    Raises:
      InputError: `torch_function` returned other names than it was given.
    """
    flattened = flattened or {}
    wide = problem.in_float64()
    weights = to_torch(wide.params, flattened)
    tasks = tasks_to_torch(wide.episodes)
    returned = torch_function({name: w.clone() for name, w in weights.items()}, tasks)
    if returned.keys() != weights.keys():
        names = ", ".join(sorted(returned.keys() ^ weights.keys()))
        raise InputError(f"`torch_function` and the weights differ in the names {names}.")
    gradient = {
        name: torch.zeros_like(w) if (slope := returned[name]) is None else slope.detach()
        for name, w in weights.items()
    }
    return diagnose(to_flax(gradient, flattened), problem, rounding=rounding, catalogue=catalogue)
