"""What each backend, JAX and PyTorch, computes for a cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import torch

import maml_jax as mj
from maml_jax.types import Meta
from parity.cells import COMPARISONS, MODELS, Cell, to_single
from parity.compiling import compile_quickly
from parity.conversion import (
    groups_to_torch,
    is_grouped,
    merged,
    tasks_to_torch,
    to_numpy,
    to_torch,
)
from parity.relative_error import Arrays
from parity.torch_tools import Groups, Reference, Result, over_tasks

OUTER_LR = 1e-3
OUTER_EPS = 1e-4
"""With Adam's usual 1e-8, a gradient that is zero but for rounding, such as that of a bias ahead of
batch norm, would make visible steps, which differ between the backends: 1e-7 after 100 updates."""


@dataclass(frozen=True)
class BackendResult:
    """What one backend computed."""

    loss: np.ndarray
    """The query loss, a mean over tasks."""
    trajectories: list[list[Arrays]]
    """The weights, `[task][inner step]`."""
    meta_gradient: Arrays
    outer: list[Arrays]
    """The meta-parameters after each outer update."""


def starting_point(learner: mj.MetaLearner, params: Any, seed: int) -> Meta:
    """The learner's meta-parameters for these weights, as float64 NumPy arrays of float32 numbers.

    What is learned besides the weights starts uniform (one rate, identity matrices), which would
    hide a mix-up of two: some noise is added.
    """
    with jax.enable_x64(True):
        meta = jax.tree.map(np.asarray, learner.init(params))
    if not is_grouped(meta):
        return meta
    generator = np.random.default_rng(seed)

    def with_noise(leaf: np.ndarray) -> np.ndarray:
        size = 0.1 * np.abs(leaf).mean() / (leaf.shape[-1] if leaf.ndim == 2 else 1) ** 0.5
        return to_single(leaf + size * generator.normal(size=leaf.shape))

    return {
        group: learned if group == "params" else jax.tree.map(with_noise, learned)
        for group, learned in meta.items()
    }


def run_jax(
    cell: Cell,
    learner: mj.MetaLearner,
    meta: Meta,
    episodes: mj.Episode,
    *,
    as_trained: bool = False,
) -> BackendResult:
    """The learner's results, computed by `over_tasks` as a training run computes them."""
    step = mj.over_tasks(learner, mesh=mj.task_mesh(1))
    progress = COMPARISONS[cell.algorithm].progress

    def everything(meta: Meta, episodes: mj.Episode) -> Any:
        (loss, _), gradient = step(meta, episodes, progress)
        trajectories = jax.lax.map(lambda s: learner.trajectory(meta, s), episodes.support)
        # A loop of no updates would be compiled all the same.
        outer = _outer_jax(step, cell, meta, episodes) if cell.updates else None
        return loss, trajectories, gradient, outer

    with jax.enable_x64(True):
        compiled = _compile(jax.jit(everything).lower(meta, episodes), as_trained)
        results = compiled(meta, episodes)
        loss, stacked, gradient, outer = jax.tree.map(np.asarray, results)
    tasks, steps = jax.tree.leaves(stacked)[0].shape[:2]
    flattened = MODELS[cell.model].flattened
    return BackendResult(
        loss,
        [
            [to_numpy(to_torch(_at(stacked, task, k), flattened)) for k in range(steps)]
            for task in range(tasks)
        ],
        _as_arrays(cell, gradient),
        [_as_arrays(cell, _at(outer, update)) for update in range(cell.updates)],
    )


def jax_meta_gradient(
    cell: Cell,
    learner: mj.MetaLearner,
    meta: Meta,
    episodes: mj.Episode,
    *,
    as_trained: bool = False,
) -> Arrays:
    """The meta-gradient alone, in the precision of `meta`."""
    step = mj.over_tasks(learner, mesh=mj.task_mesh(1))
    progress = COMPARISONS[cell.algorithm].progress

    def gradient(meta: Meta, episodes: mj.Episode) -> Meta:
        return step(meta, episodes, progress)[1]

    with jax.enable_x64(jax.tree.leaves(meta)[0].dtype == np.float64):
        compiled = _compile(jax.jit(gradient).lower(meta, episodes), as_trained)
        return _as_arrays(cell, jax.tree.map(np.asarray, compiled(meta, episodes)))


def _outer_jax(step: Any, cell: Cell, meta: Meta, episodes: mj.Episode) -> Meta:
    """The meta-parameters after each of the cell's updates, all on the same episodes."""
    adam = optax.adam(OUTER_LR, eps=OUTER_EPS)
    progress = COMPARISONS[cell.algorithm].progress

    def update(carry, _):
        meta, state = carry
        moves, state = adam.update(step(meta, episodes, progress)[1], state, meta)
        meta = optax.apply_updates(meta, moves)
        return (meta, state), meta

    return jax.lax.scan(update, (meta, adam.init(meta)), length=cell.updates)[1]


def _compile(lowered: jax.stages.Lowered, as_trained: bool) -> jax.stages.Compiled:
    return lowered.compile() if as_trained else compile_quickly(lowered)


def run_torch(cell: Cell, reference: Reference, meta: Meta, episodes: mj.Episode) -> BackendResult:
    """The reference's results."""
    model = MODELS[cell.model]
    tasks = tasks_to_torch(episodes)

    def run(groups: Groups) -> Result:
        return over_tasks(
            reference,
            model.torch,
            model.loss.torch,
            groups,
            tasks,
            inner_lr=cell.inner_lr,
            inner_steps=cell.inner_steps,
            optimizer=cell.optimizer,
        )

    groups = _to_groups(cell, meta)
    result = run(groups)
    return BackendResult(
        torch.stack(result.losses).mean().numpy(),
        [[to_numpy(weights) for weights in trajectory] for trajectory in result.trajectories],
        to_numpy(merged(result.meta_gradient)),
        _outer_torch(run, cell, groups),
    )


def _outer_torch(run: Callable[[Groups], Result], cell: Cell, groups: Groups) -> list[Arrays]:
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
        after.append(to_numpy({name: tensor.clone() for name, tensor in flat.items()}))
    return after


def _to_groups(cell: Cell, meta: Meta) -> Groups:
    flattened = MODELS[cell.model].flattened
    return groups_to_torch(meta, flattened, COMPARISONS[cell.algorithm].groups)


def _as_arrays(cell: Cell, meta: Meta) -> Arrays:
    """Meta-parameters, or a meta-gradient, in PyTorch's names and layouts."""
    return to_numpy(merged(_to_groups(cell, meta)))


def _at(tree: Any, *index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)
