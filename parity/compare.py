r"""One cell on both sides, and how far apart they are.

The error of an array $a$ against the reference $b$, in a set of arrays with the reference $B$ as a
whole (all weights after one inner step, or the whole meta-gradient), is

$$\frac{\lVert a-b\rVert}{\max(\lVert b\rVert,\; 10^{-2}\,\lVert B\rVert)}$$

or the plain $\lVert a-b\rVert$ where $B$ is zero; of a set, the largest of its arrays' errors; of a
trajectory, the largest over tasks. The second term of the maximum is for arrays that are zero in
exact arithmetic, such as the gradient of a bias ahead of batch norm. Rounding leaves them at 1e-17
to 3e-14 of $\lVert B\rVert$ (measured), different on each side, and a ratio of two roundings says
nothing. With the factor 1e-2 the bound of 1e-10 asks them to agree to 1e-12 of $\lVert B\rVert$,
while whatever is above a hundredth of $\lVert B\rVert$ must agree to 1e-10 of itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np
import optax
import torch

import maml_jax as mj
from maml_jax.types import Apply, Meta
from parity.cells import ALGORITHMS, MODELS, Cell, build
from parity.groups import groups_to_torch, is_grouped, merged
from parity.models import Weights
from parity.reference import Groups, Reference, Task
from parity.weights import to_torch

BOUND = 1e-10
OUTER_BOUND = 1e-8
"""Of the meta-parameters after all outer updates."""
FLOOR = 1e-2
OUTER_LR = 1e-3

# Without optimisation XLA may round the same value differently in two places. Derivatives that look
# a maximum up by equality (those of `jnp.max`) then miss it, and raise a false alarm.
_QUICK: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": False,
}

Learner: TypeAlias = Callable[[Apply], mj.MetaLearner]
Arrays: TypeAlias = dict[str, np.ndarray]
"""Arrays in PyTorch's layout, by PyTorch's names."""


@dataclass(frozen=True)
class Errors:
    """The relative errors of one cell, without unit, as the module defines them."""

    cell: Cell
    loss: float
    """Of the query loss, a mean over tasks."""
    weights: tuple[float, ...]
    """Of the weights after 0, 1, …, `inner_steps` inner steps."""
    meta_gradient: float
    worst: str
    """Where the largest of them is, like `meta-gradient head.weight`."""
    outer: float = 0.0
    """Of the meta-parameters after the cell's outer updates; 0 where it has none."""

    @property
    def largest_weights(self) -> float:
        """Over the inner steps; NaN if any is NaN."""
        return float(np.max(self.weights))

    @property
    def passed(self) -> bool:
        """Whether all are within their bounds; NaN is not."""
        errors = (self.loss, self.largest_weights, self.meta_gradient)
        return all(error <= BOUND for error in errors) and self.outer <= OUTER_BOUND


@dataclass(frozen=True)
class Side:
    """What one side computed."""

    loss: np.ndarray
    trajectories: list[list[Arrays]]
    """`[task][step]`"""
    meta_gradient: Arrays
    outer: Arrays
    """The meta-parameters after the outer updates; none where there are none."""


def compare(
    cell: Cell,
    *,
    learner: Learner | None = None,
    reference: Reference | None = None,
    seed: int = 0,
    quick: bool = False,
) -> Errors:
    """The errors of `cell`, in float64, from weights and episodes that `seed` determines.

    Args:
      cell: what to compare.
      learner: `learner(apply)` makes the learner to test; None: the cell's own.
      reference: what to hold it to; None: the cell's own.
      seed: for weights and episodes.
      quick: compile the learner without XLA's optimisations, on a CPU several times faster; else
        exactly as training does.
    """
    problem = build(cell, seed)
    tested = (learner or cell.learner)(problem.apply)
    meta = starting_point(tested, problem.params, seed)
    ours = jax_side(cell, tested, meta, problem.episodes, quick=quick)
    held_to = reference or ALGORITHMS[cell.algorithm].reference
    theirs = torch_side(cell, held_to, meta, problem.episodes)
    return measure(cell, ours, theirs)


def starting_point(learner: mj.MetaLearner, params: Any, seed: int) -> Meta:
    """The learner's meta-parameters for these weights, as float64 NumPy arrays.

    What is learned besides the weights starts all alike (one rate, identity matrices), where a
    mix-up of two would not show: some noise is added.
    """
    with jax.enable_x64(True):
        meta = jax.tree.map(np.asarray, learner.init(params))
    if not is_grouped(meta):
        return meta
    generator = np.random.default_rng(seed)

    def noisy(leaf):
        size = 0.1 * np.abs(leaf).mean() / (leaf.shape[-1] if leaf.ndim == 2 else 1) ** 0.5
        return leaf + size * generator.normal(size=leaf.shape)

    return {
        group: learned if group == "params" else jax.tree.map(noisy, learned)
        for group, learned in meta.items()
    }


def jax_side(
    cell: Cell, learner: mj.MetaLearner, meta: Meta, episodes: mj.Episode, *, quick: bool = False
) -> Side:
    """The learner's numbers, through `over_tasks` as a training run has them."""
    step = mj.over_tasks(learner)
    progress = ALGORITHMS[cell.algorithm].progress

    def everything(meta: Meta, episodes: mj.Episode) -> Any:
        (loss, _), gradient = step(meta, episodes, progress)
        trajectories = jax.lax.map(lambda s: learner.trajectory(meta, s), episodes.support)
        # A loop of no updates would be compiled all the same.
        outer = _outer(step, cell, meta, episodes) if cell.updates else None
        return loss, trajectories, gradient, outer

    with jax.enable_x64(True):
        compiled = _compile(jax.jit(everything).lower(meta, episodes), quick)
        results = compiled(meta, episodes)
        loss, stacked, gradient, outer = jax.tree.map(np.asarray, results)
    tasks, steps = jax.tree.leaves(stacked)[0].shape[:2]
    flattened = MODELS[cell.model].flattened

    def of_torch(task, step):
        params = jax.tree.map(lambda leaf: leaf[task, step], stacked)
        return _arrays(to_torch(params, flattened))

    return Side(
        loss,
        [[of_torch(task, step) for step in range(steps)] for task in range(tasks)],
        _arrays(merged(groups_to_torch(gradient, flattened))),
        _arrays(merged(groups_to_torch(outer, flattened))) if cell.updates else {},
    )


def _outer(step: Any, cell: Cell, meta: Meta, episodes: mj.Episode) -> Meta:
    """The meta-parameters after the cell's updates, all on the same episodes."""
    adam = optax.adam(OUTER_LR)
    progress = ALGORITHMS[cell.algorithm].progress

    def update(_, carry):
        meta, state = carry
        moves, state = adam.update(step(meta, episodes, progress)[1], state, meta)
        return optax.apply_updates(meta, moves), state

    return jax.lax.fori_loop(0, cell.updates, update, (meta, adam.init(meta)))[0]


def _compile(lowered: jax.stages.Lowered, quick: bool) -> jax.stages.Compiled:
    if quick and jax.default_backend() == "cpu":
        try:
            # A program that runs once: most of its time would go into optimising it.
            return lowered.compile(_QUICK)
        except jax.errors.JaxRuntimeError as error:  # such options come and go with XLA's versions
            if "No such compile option" not in str(error):
                raise
    return lowered.compile()


def torch_side(cell: Cell, reference: Reference, meta: Meta, episodes: mj.Episode) -> Side:
    """The reference's numbers."""
    model = MODELS[cell.model]
    tasks = [
        Task(_inputs(sx), torch.from_numpy(sy), _inputs(qx), torch.from_numpy(qy))
        for sx, sy, qx, qy in zip(*episodes.support, *episodes.query, strict=True)
    ]

    def run(groups: Groups) -> Any:
        options: dict[str, Any] = {"inner_lr": cell.inner_lr, "inner_steps": cell.inner_steps}
        if cell.optimizer != "sgd":
            options["optimizer"] = cell.optimizer
        return reference(model.torch, model.loss.torch, groups, tasks, **options)

    groups = groups_to_torch(meta, model.flattened)
    result = run(groups)
    return Side(
        torch.stack(result.losses).mean().numpy(),
        [[_arrays(step) for step in trajectory] for trajectory in result.trajectories],
        _arrays(merged(result.meta_gradient)),
        _torch_outer(run, cell, groups) if cell.updates else {},
    )


def _torch_outer(run: Callable[[Groups], Any], cell: Cell, groups: Groups) -> Arrays:
    learned = {
        group: {name: tensor.clone() for name, tensor in tensors.items()}
        for group, tensors in groups.items()
    }
    flat = merged(learned)
    adam = torch.optim.Adam(list(flat.values()), lr=OUTER_LR)
    for _ in range(cell.updates):
        for name, slope in merged(run(learned).meta_gradient).items():
            flat[name].grad = slope
        adam.step()
    return _arrays(flat)


def _arrays(weights: Weights) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}


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
            found[name] = max(found.get(name, error), error, key=_nan_is_largest)
    found["meta-gradient"] = relative_error(ours.meta_gradient, theirs.meta_gradient)
    worst, (array, _) = max(found.items(), key=lambda item: _nan_is_largest(item[1]))
    outer = relative_error(ours.outer, theirs.outer)[1] if theirs.outer else 0.0
    return Errors(
        cell,
        found["loss"][1],
        tuple(error for name, (_, error) in found.items() if name.startswith("weights")),
        found["meta-gradient"][1],
        f"{worst} {array}".strip(),
        outer,
    )


def relative_error(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> tuple[str, float]:
    """The array that is furthest from its reference, and its error as the module defines it."""
    if ours.keys() != theirs.keys():
        raise ValueError(f"one side alone had the weights {sorted(ours.keys() ^ theirs.keys())}.")
    whole = float(np.sqrt(sum(np.sum(np.square(b)) for b in theirs.values())))
    errors = []
    for path, b in theirs.items():
        a = ours[path]
        if a.shape != b.shape or a.dtype != np.float64 or b.dtype != np.float64:
            raise ValueError(
                f"`{path}` was {a.dtype}{a.shape} against {b.dtype}{b.shape}; both must be "
                "float64 of one shape."
            )
        scale = max(float(np.linalg.norm(b)), FLOOR * whole)
        errors.append((path, float(np.linalg.norm(a - b)) / (scale or 1.0)))
    return max(errors, key=_nan_is_largest)


def _nan_is_largest(error: tuple[str, float]) -> tuple[bool, float]:
    return bool(np.isnan(error[1])), error[1]


def _inputs(x: np.ndarray) -> torch.Tensor:
    """Images with their channels first; anything else as it is."""
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x)
