"""One call from a PyTorch meta-gradient to a verdict."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
import torch
from torch import Tensor

import maml_jax as mj
from maml_jax.errors import InputError
from parity.catalogue import Catalogue
from parity.diagnosis import Diagnosis, diagnose
from parity.models import Weights
from parity.problem import Problem
from parity.reference import Task
from parity.weights import Flattened, to_flax, to_torch

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
        them out (float64, requiring no gradient yet) and `Task`s of tensors with channels first,
        returns the mean meta-gradient over tasks by the same names. None counts as zero.
      problem: network, weights, tasks, and how to adapt.
      flattened: the dense layers behind a flattened image, as `parity.weights` has it.
      rounding: as in `diagnose`.
      catalogue: as in `diagnose`.

    Raises:
      InputError: it returned other names than it was given.
    """
    flattened = flattened or {}
    wide = problem.in_float64()
    weights = to_torch(wide.params, flattened)
    tasks = [Task(*_tensors(s), *_tensors(q)) for s, q in _each_task(wide.episodes)]
    found = torch_function({name: w.clone() for name, w in weights.items()}, tasks)
    if found.keys() != weights.keys():
        odd = ", ".join(sorted(found.keys() ^ weights.keys()))
        raise InputError(f"`torch_function` and the weights differ in the names {odd}.")
    given = {
        name: torch.zeros_like(w) if (slope := found[name]) is None else slope.detach()
        for name, w in weights.items()
    }
    return diagnose(to_flax(given, flattened), problem, rounding=rounding, catalogue=catalogue)


def _each_task(episodes: mj.Episode) -> Sequence[Any]:
    count = len(episodes.support.y)
    return [jax.tree.map(lambda leaf, t=t: np.asarray(leaf[t]), episodes) for t in range(count)]


def _tensors(batch: mj.Batch) -> tuple[Tensor, Tensor]:
    """Images with their channels first; anything else as it is."""
    x = np.asarray(batch.x)
    x = x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x
    y = np.asarray(batch.y)
    labels = y.astype(np.int64) if np.issubdtype(y.dtype, np.integer) else y
    return torch.from_numpy(x), torch.from_numpy(labels)
