"""Do the two networks agree at the starting weights? Without that no gradient can be judged."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch

import maml_jax as mj
from maml_jax.exchange import Flattened
from maml_jax.types import Apply
from parity.conversion import tasks_to_torch, to_torch
from parity.first_outputs import Enough, FirstOutputs
from parity.problem import Problem
from parity.torch_names import Names, Network, as_function, renamed
from parity.torch_tools import Task, Weights
from parity.variants import Variant, variants

OUTPUTS = {"float64": 1e-9, "float32": 1e-4}
"""The largest relative difference of outputs that rounding explains, by their precision."""


@dataclass(frozen=True)
class Networks:
    """How two networks differ at the starting weights."""

    difference: float
    """‖yours − the other's‖ / ‖the other's‖ of the outputs."""
    loss: tuple[float, float]
    """Of your outputs and of those of the network in JAX, by the problem's loss."""
    variant: Variant | None = None
    """The change that makes them equal, if one does."""
    observed: bool = False
    """Seen in the training step, for the network itself was not given."""

    def __str__(self) -> str:
        yours, twins = self.loss
        if np.isnan(self.difference) and self.variant is not None:  # no outputs were seen
            return f"your networks differ, or {self.variant} would not make the gradients equal"
        digits = next((d for d in range(3, 12) if f"{yours:.{d}g}" != f"{twins:.{d}g}"), 12)
        where = "what your loss was given first" if self.observed else "the outputs"
        said = (
            f"your networks differ at the starting weights: loss {yours:.{digits}g} against "
            f"{twins:.{digits}g} ({where}, by {self.difference:.1e})"
        )
        if self.variant is None:
            return (
                f"{said}\nother orders of flattening, epsilons and modes of norms do not make them "
                "equal; compare them layer by layer"
            )
        return f"{said}\nthey are equal with {self.variant}: {self.variant.remedy}"


class Twin:
    """The outputs of the network in JAX at the starting weights."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.sets = tuple(problem.episodes)
        """The support sets and the query sets, `[tasks, examples, …]`."""
        self.outputs = tuple(self._of(problem.apply, batch) for batch in self.sets)

    def _of(self, apply: Apply, batch: mj.Batch) -> np.ndarray:
        with jax.enable_x64(True):
            every_task = jax.jit(jax.vmap(apply, (None, 0)))
            return np.asarray(every_task(self.problem.params, batch.x))

    def losses(self, yours: np.ndarray, which: int = 0) -> tuple[float, float]:
        """The problem's loss of your outputs and of its own, on the first task's set."""
        y = self.sets[which].y[0]
        with jax.enable_x64(True):
            pair = (self.problem.loss(out, y) for out in (yours, self.outputs[which][0]))
            return tuple(map(float, pair))  # type: ignore[return-value]

    def known(self) -> Iterator[np.ndarray]:
        """What a training step may give to its loss first, the right outputs before mistakes."""
        found = list(self.outputs)
        if self.problem.eval_apply is not None:
            found += [self._of(self.problem.eval_apply, batch) for batch in self.sets]
        with jax.enable_x64(True):
            for outputs in found:
                yield from outputs
                if outputs.ndim == 3:
                    yield from np.asarray(jax.nn.log_softmax(outputs))
                    yield from np.asarray(jax.nn.softmax(outputs))

    def found_in(self, outputs: np.ndarray) -> bool:
        """Whether these are known outputs, to rounding."""
        return any(_difference(outputs, known) <= OUTPUTS["float64"] for known in self.known())


def compare_networks(
    network: Network, problem: Problem, flattened: Flattened, names: Names | None
) -> Networks | None:
    """How the PyTorch network differs from `problem.apply`; None: not, or by a known mistake.

    Args:
      network: a module, or a function of weights and inputs.
      problem: the problem, in float64.
      flattened: as in `parity.check`.
      names: as in `parity.check`.
    """
    twin = Twin(problem)
    task = tasks_to_torch(problem.episodes)[0]

    def run(variant: Variant) -> list[np.ndarray]:
        weights = renamed(to_torch(problem.params, variant.flattened), names)
        forward = as_function(network, weights)
        with torch.no_grad(), variant.in_force():
            outputs = [forward(weights, x) for x in (task.support_x, task.query_x)]
        return [each.numpy() for each in outputs]

    def differences(outputs: list[np.ndarray]) -> list[float]:
        return [_difference(a, b[0]) for a, b in zip(outputs, twin.outputs, strict=True)]

    def equal(outputs: list[np.ndarray]) -> bool:
        rounding = OUTPUTS.get(str(outputs[0].dtype), OUTPUTS["float32"])
        return max(differences(outputs)) <= rounding

    plain = run(Variant(flattened))
    if equal(plain):
        return None
    found = Networks(max(differences(plain)), twin.losses(plain[0]))
    # Evaluation mode and a softmax too many are mistakes that the catalogue has.
    if twin.found_in(plain[0]):
        return None
    return _with_variant(found, problem, flattened, lambda variant: equal(run(variant)))


def observed_networks(
    train: Callable[[Weights, list[Task]], Any],
    outputs: np.ndarray,
    problem: Problem,
    flattened: Flattened,
    names: Names | None,
) -> Networks | None:
    """As `compare_networks`, by the outputs with which a training step called its first loss.

    Args:
      train: the training step.
      outputs: those outputs.
      problem: the problem, in float64.
      flattened: as in `parity.check`.
      names: as in `parity.check`.
    """
    twin = Twin(problem)
    shapes = [of_set.shape[1:] for of_set in twin.outputs]
    if outputs.shape not in shapes or twin.found_in(outputs):
        return None
    which = shapes.index(outputs.shape)
    tasks = tasks_to_torch(problem.episodes)

    def equal(variant: Variant) -> bool:
        weights = renamed(to_torch(problem.params, variant.flattened), names)
        # The variant is the outer mode: the loss is seen before, and norms are changed.
        with variant.in_force(), FirstOutputs(only=True) as first, contextlib.suppress(Enough):
            train(weights, tasks)
        return first.outputs is not None and twin.found_in(first.outputs)

    difference = _difference(outputs, twin.outputs[which][0])
    found = Networks(difference, twin.losses(outputs, which), observed=True)
    return _with_variant(found, problem, flattened, equal)


def _with_variant(
    found: Networks, problem: Problem, flattened: Flattened, equal: Callable[[Variant], bool]
) -> Networks:
    for variant in variants(problem.params, flattened):
        if equal(variant):
            return Networks(found.difference, found.loss, variant, found.observed)
    return found


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-300))
