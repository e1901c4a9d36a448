"""One cell computed by JAX and by PyTorch, and the relative errors between the two."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

import maml_jax as mj
from maml_jax.types import Apply
from parity.backends import BackendResult, run_jax, run_torch, starting_point
from parity.cells import COMPARISONS, Cell, build_inputs
from parity.relative_error import BOUND, OUTER_BOUND, nan_is_largest, relative_error
from parity.rounding import Rounding, rounding
from parity.torch_tools import Reference

Learner: TypeAlias = Callable[[Apply], mj.MetaLearner]


@dataclass(frozen=True)
class Errors:
    """The relative errors of one cell, without unit, as `parity.relative_error` defines them."""

    cell: Cell
    loss: float
    """Of the query loss, a mean over tasks."""
    weights: tuple[float, ...]
    """Of the weights after 0, 1, …, `inner_steps` inner steps."""
    meta_gradient: float
    worst: str
    """Where the largest of them is, such as `meta-gradient head.weight`."""
    outer: float = 0.0
    """Of the meta-parameters, the largest after any of the cell's outer updates; 0 without any."""
    float32: Rounding | None = None
    """The errors of the meta-gradient in float32, if they were asked for."""

    @property
    def largest_weights(self) -> float:
        """The largest over the inner steps; NaN if any is NaN."""
        return float(np.max(self.weights))

    @property
    def passed(self) -> bool:
        """Whether all errors are within their bounds; NaN is not."""
        errors = (self.loss, self.largest_weights, self.meta_gradient)
        float64 = all(error <= BOUND for error in errors) and self.outer <= OUTER_BOUND
        return float64 and (self.float32 is None or self.float32.passed)


def compare(
    cell: Cell,
    *,
    learner: Learner | None = None,
    reference: Reference | None = None,
    seed: int = 0,
    as_trained: bool = False,
    float32: bool = False,
) -> Errors:
    """The errors of `cell`, in float64, from weights and episodes that `seed` determines.

    Args:
      cell: what to compare.
      learner: `learner(apply)` makes the learner to test; None: that of the cell.
      reference: the PyTorch algorithm to compare it with; None: that of the cell.
      seed: of the weights and the episodes.
      as_trained: compile the learner exactly as training does. False, on a CPU: without XLA's
        optimisations, which take several times as long as everything else.
      float32: compute the meta-gradient in float32 as well.
    """
    params, apply, episodes = build_inputs(cell, seed)
    tested = (learner or cell.learner)(apply)
    expected = reference or COMPARISONS[cell.algorithm].reference
    meta = starting_point(tested, params, seed)
    of_jax = run_jax(cell, tested, meta, episodes, as_trained=as_trained)
    of_torch = run_torch(cell, expected, meta, episodes)
    errors = measure(cell, of_jax, of_torch)
    if not float32:
        return errors
    exact = of_torch.meta_gradient
    single = rounding(cell, tested, expected, meta, episodes, exact, as_trained=as_trained)
    return replace(errors, float32=single)


def measure(cell: Cell, ours: BackendResult, theirs: BackendResult) -> Errors:
    """The relative errors of `ours` against the reference `theirs`.

    An inner step that only one of them has taken is an infinite error.

    Raises:
      ValueError: they have different tasks or different weights.
    """
    found = {"loss": relative_error({"": ours.loss}, {"": theirs.loss})}
    for a, b in zip(ours.trajectories, theirs.trajectories, strict=True):
        for step in range(max(len(a), len(b))):
            both = step < min(len(a), len(b))
            error = relative_error(a[step], b[step]) if both else ("missing on one side", np.inf)
            name = f"weights after {step}"
            found[name] = max(found.get(name, error), error, key=nan_is_largest)
    found["meta-gradient"] = relative_error(ours.meta_gradient, theirs.meta_gradient)
    worst, (array, _) = max(found.items(), key=lambda item: nan_is_largest(item[1]))
    after = [relative_error(a, b)[1] for a, b in zip(ours.outer, theirs.outer, strict=True)]
    return Errors(
        cell,
        found["loss"][1],
        tuple(error for name, (_, error) in found.items() if name.startswith("weights")),
        found["meta-gradient"][1],
        f"{worst} {array}".strip(),
        float(np.max(after, initial=0.0)),
    )
