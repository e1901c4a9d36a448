"""One cell on both sides, and how far apart they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

import maml_jax as mj
from maml_jax.types import Apply
from parity.cells import ALGORITHMS, Cell, build
from parity.errors import BOUND, OUTER_BOUND, nan_is_largest, relative_error
from parity.reference import Reference
from parity.rounding import Rounding, rounding
from parity.sides import Side, jax_side, starting_point, torch_side

Learner: TypeAlias = Callable[[Apply], mj.MetaLearner]


@dataclass(frozen=True)
class Errors:
    """The relative errors of one cell, without unit, as `parity.errors` defines them."""

    cell: Cell
    loss: float
    """Of the query loss, a mean over tasks."""
    weights: tuple[float, ...]
    """Of the weights after 0, 1, …, `inner_steps` inner steps."""
    meta_gradient: float
    worst: str
    """Where the largest of them is, like `meta-gradient head.weight`."""
    outer: float = 0.0
    """Of the meta-parameters after the cell's outer updates, the largest of all; 0 without any."""
    float32: Rounding | None = None
    """The meta-gradient's in float32, if it was asked for."""

    @property
    def largest_weights(self) -> float:
        """Over the inner steps; NaN if any is NaN."""
        return float(np.max(self.weights))

    @property
    def passed(self) -> bool:
        """Whether all are within their bounds; NaN is not."""
        errors = (self.loss, self.largest_weights, self.meta_gradient)
        double = all(error <= BOUND for error in errors) and self.outer <= OUTER_BOUND
        return double and (self.float32 is None or self.float32.passed)


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
      learner: `learner(apply)` makes the learner to test; None: the cell's own.
      reference: what to hold it to; None: the cell's own.
      seed: for weights and episodes.
      as_trained: compile the learner exactly as training does; else, on a CPU, without XLA's
        optimisations, which take several times as long as all the rest.
      float32: compute the meta-gradient in float32 as well.
    """
    problem = build(cell, seed)
    tested = (learner or cell.learner)(problem.apply)
    meta = starting_point(tested, problem.params, seed)
    ours = jax_side(cell, tested, meta, problem.episodes, as_trained=as_trained)
    held_to = reference or ALGORITHMS[cell.algorithm].reference
    theirs = torch_side(cell, held_to, meta, problem.episodes)
    errors = measure(cell, ours, theirs)
    if not float32:
        return errors
    exact = theirs.meta_gradient
    single = rounding(cell, tested, held_to, meta, problem.episodes, exact, as_trained=as_trained)
    return replace(errors, float32=single)


def measure(cell: Cell, ours: Side, theirs: Side) -> Errors:
    """How far `ours` is from the reference `theirs`.

    A step that one side alone has taken is infinitely wrong. Different tasks or different weights
    are no matter of degree and raise a `ValueError`.
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
