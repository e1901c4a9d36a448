"""What each side computes of a cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import torch

import maml_jax as mj
from maml_jax.types import Meta
from parity.cells import ALGORITHMS, MODELS, Cell, to_single
from parity.errors import Arrays
from parity.groups import groups_to_torch, is_grouped, merged
from parity.models import Weights
from parity.reference import Groups, Reference, Task
from parity.weights import to_torch

OUTER_LR = 1e-3
OUTER_EPS = 1e-4
"""With Adam's usual 1e-8, a gradient that is zero but for rounding (of a bias ahead of batch norm)
becomes steps that can be seen, other ones on each side: 1e-7 after 100 updates."""

# Without optimisation XLA may round the same value differently in two places. Derivatives that look
# a maximum up by equality (those of `jnp.max`) then miss it, and raise a false alarm.
_UNOPTIMIZED: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": False,
}


@dataclass(frozen=True)
class Side:
    """What one side computed."""

    loss: np.ndarray
    trajectories: list[list[Arrays]]
    """`[task][step]`"""
    meta_gradient: Arrays
    outer: list[Arrays]
    """The meta-parameters after each of the outer updates."""


def starting_point(learner: mj.MetaLearner, params: Any, seed: int) -> Meta:
    """The learner's meta-parameters for these weights, as float64 NumPy arrays of float32 numbers.

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
        return to_single(leaf + size * generator.normal(size=leaf.shape))

    return {
        group: learned if group == "params" else jax.tree.map(noisy, learned)
        for group, learned in meta.items()
    }


def jax_side(
    cell: Cell,
    learner: mj.MetaLearner,
    meta: Meta,
    episodes: mj.Episode,
    *,
    as_trained: bool = False,
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
        compiled = _compile(jax.jit(everything).lower(meta, episodes), as_trained)
        results = compiled(meta, episodes)
        loss, stacked, gradient, outer = jax.tree.map(np.asarray, results)
    tasks, steps = jax.tree.leaves(stacked)[0].shape[:2]
    flattened = MODELS[cell.model].flattened

    def weights(task: int, step: int) -> Arrays:
        return _arrays(to_torch(_at(stacked, task, step), flattened))

    def learned(meta: Meta) -> Arrays:
        return _arrays(merged(groups_to_torch(meta, flattened)))

    return Side(
        loss,
        [[weights(task, step) for step in range(steps)] for task in range(tasks)],
        learned(gradient),
        [learned(_at(outer, update)) for update in range(cell.updates)],
    )


def jax_gradient(
    cell: Cell,
    learner: mj.MetaLearner,
    meta: Meta,
    episodes: mj.Episode,
    *,
    as_trained: bool = False,
) -> Arrays:
    """The meta-gradient alone, in the precision of `meta` and as training has that precision."""
    step = mj.over_tasks(learner)
    progress = ALGORITHMS[cell.algorithm].progress

    def gradient(meta: Meta, episodes: mj.Episode) -> Meta:
        return step(meta, episodes, progress)[1]

    with jax.enable_x64(jax.tree.leaves(meta)[0].dtype == np.float64):
        compiled = _compile(jax.jit(gradient).lower(meta, episodes), as_trained)
        found = jax.tree.map(np.asarray, compiled(meta, episodes))
    return _arrays(merged(groups_to_torch(found, MODELS[cell.model].flattened)))


def _outer(step: Any, cell: Cell, meta: Meta, episodes: mj.Episode) -> Meta:
    """The meta-parameters after each of the cell's updates, all on the same episodes."""
    adam = optax.adam(OUTER_LR, eps=OUTER_EPS)
    progress = ALGORITHMS[cell.algorithm].progress

    def update(carry, _):
        meta, state = carry
        moves, state = adam.update(step(meta, episodes, progress)[1], state, meta)
        meta = optax.apply_updates(meta, moves)
        return (meta, state), meta

    return jax.lax.scan(update, (meta, adam.init(meta)), length=cell.updates)[1]


def _compile(lowered: jax.stages.Lowered, as_trained: bool) -> jax.stages.Compiled:
    if not as_trained and jax.default_backend() == "cpu":
        try:
            # A program that runs once: most of its time would go into optimising it.
            return lowered.compile(_UNOPTIMIZED)
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
        _torch_outer(run, cell, groups),
    )


def _torch_outer(run: Callable[[Groups], Any], cell: Cell, groups: Groups) -> list[Arrays]:
    learned = {
        group: {name: tensor.clone() for name, tensor in tensors.items()}
        for group, tensors in groups.items()
    }
    flat = merged(learned)
    adam = torch.optim.Adam(list(flat.values()), lr=OUTER_LR, eps=OUTER_EPS)
    after = []
    for _ in range(cell.updates):
        for name, slope in merged(run(learned).meta_gradient).items():
            flat[name].grad = slope
        adam.step()
        after.append(_arrays({name: tensor.clone() for name, tensor in flat.items()}))
    return after


def _at(tree: Any, *index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _arrays(weights: Weights) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}


def _inputs(x: np.ndarray) -> torch.Tensor:
    """Images with their channels first; anything else as it is."""
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x)
