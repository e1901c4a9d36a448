"""The compiled program that trains: many updates of the meta-parameters in one dispatch."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maml_jax.batching import default_chunk, hosts, over_tasks
from maml_jax.batching.devices import AXIS
from maml_jax.data import TaskSource
from maml_jax.types import Episode, Meta, MetaLearner, Metrics, Params

Nonfinite: TypeAlias = Literal["stop", "skip"]
"""What to do about an update that is not finite: end training, or leave the update out."""


class State(NamedTuple):
    """All that an update changes or draws from."""

    meta: Meta
    optimizer: Any
    update: jax.Array | np.ndarray
    """How many updates were made, int32."""
    skipped: jax.Array | np.ndarray
    """How many of them changed nothing, because they were not finite, int32."""
    key: jax.Array
    """The data of the random key from which every task is drawn."""


class Block(NamedTuple):
    """What the tasks of some updates are drawn from, on the device."""

    store: Any
    """The source's `store`."""
    first: int = 0
    """The first of the updates that `items` are for."""
    items: Any = None
    """What `sample` takes for each task of each update, where it is fetched from the host:
    a pytree with the axes `[updates, tasks]` first. None: `sample` takes the tasks' keys."""


class Totals(NamedTuple):
    """Sums of the metrics over the updates since they were last logged."""

    sums: Metrics
    updates: jax.Array | np.ndarray
    """How many updates were added, those that were not finite left out, int32."""

    def means(self) -> dict[str, float]:
        """The mean of each metric over the updates that were finite; NaN if none was."""
        sums = {name: np.asarray(value) for name, value in self.sums.items()}
        updates = np.asarray(self.updates)
        with np.errstate(invalid="ignore"):  # 0/0
            return {
                name: float(value / updates.astype(value.dtype)) for name, value in sums.items()
            }


def initial_state(
    learner: MetaLearner, params: Params, optimizer: optax.GradientTransformation, seed: int
) -> State:
    """The state before the first update; `seed` decides every task that follows."""
    meta = learner.init(params)
    key = jax.random.fold_in(jax.random.key(seed), 1)
    zero = np.zeros((), np.int32)
    return State(meta, optimizer.init(meta), zero, zero, jax.random.key_data(key))


def task_keys(key: Any, update: Any, tasks: int) -> jax.Array:
    """The keys of the tasks of one update; `key` is that of the state."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key), update)
    return jax.random.split(key, tasks)


def objectives_key(key: Any, update: Any) -> jax.Array:
    """The key that the objectives of an update's tasks draw from; `key` is that of the state."""
    # No update has this number, of which `task_keys` would make the same.
    key = jax.random.fold_in(jax.random.wrap_key_data(key), 2**32 - 1)
    return jax.random.fold_in(key, update)


Run: TypeAlias = Callable[[State, Totals | None, Block, int], tuple[State, Totals, jax.Array]]


def updates_of(
    learner: MetaLearner,
    source: TaskSource,
    optimizer: optax.GradientTransformation,
    *,
    tasks_per_update: int,
    updates: int,
    mesh: Mesh | None,
    nonfinite: Nonfinite,
    chunk: int | None,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Training as pure functions, to be transformed and compiled.

    The arguments are those of `make_updates`, but that `optimizer` may hold traced numbers, such as
    a rate, and that `mesh` may be None: one device, or within a `shard_map` each for itself.

    Returns:
      `(update, run)`: `update(state, block) -> (state, metrics, good)`, one update, and
      `run(state, totals, block, n) -> (state, totals, failed)`, `n` of them in a loop.
    """
    stops = nonfinite == "stop"
    devices = 1 if mesh is None else mesh.size
    draw: Callable[[Any, Any], Episode] = jax.vmap(source.sample, in_axes=(None, 0))
    if mesh is not None and devices > 1 and tasks_per_update % devices == 0:
        # Each device draws its own tasks.
        dealt = PartitionSpec(AXIS)
        draw = jax.shard_map(
            draw, mesh=mesh, in_specs=(PartitionSpec(), dealt), out_specs=dealt, check_vma=False
        )

    def items(state: State, block: Block) -> Any:
        """What `source.sample` takes for the tasks of this update."""
        if block.items is None:
            return task_keys(state.key, state.update, tasks_per_update)
        return jax.tree.map(lambda leaf: leaf[state.update - block.first], block.items)

    def update(state: State, block: Block) -> tuple[State, Metrics, jax.Array]:
        episodes = draw(block.store, items(state, block))
        together = chunk or default_chunk(state.meta, episodes, devices)
        step = over_tasks(learner, together, mesh)
        given = {"key": objectives_key(state.key, state.update)} if learner.takes_key else {}
        (_, metrics), grads = step(
            state.meta, episodes, jnp.asarray(state.update) / updates, **given
        )
        changes, moments = optimizer.update(grads, state.optimizer, state.meta)
        changed = optax.apply_updates(state.meta, changes), moments
        good = jnp.isfinite(metrics["loss"]) & _all_finite(changed)
        meta, moments = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), changed, (state.meta, state.optimizer)
        )
        counted = good | (not stops)
        fresh = State(
            meta, moments, state.update + counted, state.skipped + (counted & ~good), state.key
        )
        return fresh, metrics, good

    def run(state: State, totals: Totals, block: Block, n: int) -> Any:
        def unfinished(carry: Any) -> jax.Array:
            i, _, _, failed = carry
            return (i < n) & ~failed

        def body(carry: Any) -> Any:
            i, state, totals, _ = carry
            state, metrics, good = update(state, block)
            sums = jax.tree.map(lambda s, m: s + jnp.where(good, m, 0), totals.sums, metrics)
            return i + 1, state, Totals(sums, totals.updates + good), ~good & stops

        start = (0, state, totals, jnp.zeros((), bool))
        return jax.lax.while_loop(unfinished, body, start)[1:]

    return update, run


def zero_totals(update: Callable[..., Any], state: State, block: Block) -> Totals:
    """Totals of no updates, of the metrics that `update` computes."""
    metrics = jax.eval_shape(update, state, block)[1]
    sums = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), metrics)
    return Totals(sums, np.zeros((), np.int32))


def make_updates(
    learner: MetaLearner,
    source: TaskSource,
    optimizer: optax.GradientTransformation,
    *,
    tasks_per_update: int,
    updates: int,
    mesh: Mesh,
    nonfinite: Nonfinite = "stop",
    chunk: int | None = None,
) -> Run:
    """The program that trains `learner` on the tasks of `source`.

    `n` is an argument of the compiled program, so it compiles once, and updates in one dispatch or
    in several give the same bits.

    Args:
      learner: what is done with one task.
      source: where tasks come from.
      optimizer: makes changes of the meta-parameters from meta-gradients.
      tasks_per_update: the tasks of one update.
      updates: how many updates the training has in all, for algorithms that have a schedule.
      mesh: the devices over which an update's tasks are dealt, by its axis `tasks`.
      nonfinite: an update whose loss or result is not finite changes no meta-parameter; `"stop"`
        ends the dispatch before it, `"skip"` counts it and goes on.
      chunk: the tasks that a device computes together; None: as many as `default_chunk` says.

    Returns:
      `run(state, totals, block, n) -> (state, totals, failed)`: `n` updates in one dispatch, whose
      metrics are added to `totals`, or to 0 where that is None. The memory of `state` and `totals`
      is reused. `failed`: an update was not finite where `nonfinite` is `"stop"`, and the state is
      the one before it.
    """
    update, loop = updates_of(
        learner,
        source,
        optimizer,
        tasks_per_update=tasks_per_update,
        updates=updates,
        mesh=mesh,
        nonfinite=nonfinite,
        chunk=chunk,
    )
    compiled = jax.jit(loop, donate_argnums=(0, 1))
    everywhere = NamedSharding(mesh, PartitionSpec())
    zeros: list[Totals] = []  # of which there is one, as soon as the metrics are known

    def run(state: State, totals: Totals | None, block: Block, n: int) -> Any:
        if totals is None:
            if not zeros:
                zeros.append(zero_totals(update, state, block))
            totals = hosts.place(zeros[0], everywhere)
        return compiled(state, totals, block, n)

    return run


def _all_finite(tree: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
