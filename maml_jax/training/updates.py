"""The program that trains: many updates of the meta-parameters in one dispatch on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from maml_jax.batching import default_chunk, over_tasks
from maml_jax.data import TaskSource
from maml_jax.training.build import Problem
from maml_jax.training.config import Config
from maml_jax.types import Meta, MetaLearner


class State(NamedTuple):
    """All that an update changes or draws from; with the config it decides the rest of the run."""

    meta: Meta
    optimizer: Any
    update: jax.Array | np.ndarray
    """How many updates were made, int32."""
    skipped: jax.Array | np.ndarray
    """How many of them changed nothing, for they were not finite, int32."""
    key: jax.Array
    """The data of the random key that every task comes from."""


def outer_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam at the rate of the config, after clipping where the config says so."""
    rate: Any = config.meta_lr
    if config.meta_schedule == "cosine":
        after = config.updates - config.warm_up
        rate = optax.cosine_decay_schedule(config.meta_lr, max(after, 1))
    if config.warm_up:
        flat = optax.constant_schedule(config.meta_lr) if not callable(rate) else rate
        rising = optax.linear_schedule(0.0, config.meta_lr, config.warm_up)
        rate = optax.join_schedules([rising, flat], [config.warm_up])
    if config.meta_clip is None:
        return optax.adam(rate)
    return optax.chain(optax.clip_by_global_norm(config.meta_clip), optax.adam(rate))


def initial_state(problem: Problem, config: Config) -> State:
    meta = problem.learner.init(problem.params)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    optimizer = outer_optimizer(config).init(meta)
    zero = np.zeros((), np.int32)
    return State(meta, optimizer, zero, zero, jax.random.key_data(key))


def task_keys(key: Any, update: Any, tasks: int) -> jax.Array:
    """The keys of the tasks of one update; `key` is that of the state."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key), update)
    return jax.random.split(key, tasks)


def make_updates(
    learner: MetaLearner, source: TaskSource, config: Config, mesh: Mesh
) -> Callable[[State, Any, int], tuple[State, dict[str, jax.Array], jax.Array]]:
    """`run(state, feed, n) -> (state, metrics, failed)`: `n` updates in one dispatch.

    `feed` is what `Feed.block` gives. The metrics are means over the updates that were made. An
    update whose loss, or whose result, is not finite changes nothing but the count of updates;
    where the config says to stop, not even that, it is the last, and `failed` is true.
    The state's memory is reused. `n` is an argument of the compiled program: it compiles once.
    """
    optimizer = outer_optimizer(config)
    stops = config.nonfinite == "stop"

    def tasks(state: State, feed: Any) -> Any:
        """What the source's `sample` takes for the tasks of this update."""
        _, first, items = feed
        if items is None:
            return task_keys(state.key, state.update, config.tasks)
        return jax.tree.map(lambda leaf: leaf[state.update - first], items)

    def update(state: State, feed: Any) -> tuple[State, dict[str, jax.Array], jax.Array]:
        episodes = jax.vmap(source.sample, in_axes=(None, 0))(feed[0], tasks(state, feed))
        chunk = config.chunk or default_chunk(state.meta, episodes, mesh.size)
        step = over_tasks(learner, chunk, mesh)
        (_, values), grads = step(state.meta, episodes, state.update / config.updates)
        changes, moments = optimizer.update(grads, state.optimizer, state.meta)
        changed = optax.apply_updates(state.meta, changes), moments
        good = jnp.isfinite(values["loss"]) & _finite(changed)
        meta, moments = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), changed, (state.meta, state.optimizer)
        )
        counted = good | (not stops)
        fresh = State(
            meta,
            moments,
            state.update + counted,
            state.skipped + (counted & ~good),
            state.key,
        )
        return fresh, values, good

    def run(state, feed, n):
        def unfinished(carry):
            i, _, _, _, failed = carry
            return (i < n) & ~failed

        def body(carry):
            i, state, sums, made, _ = carry
            state, values, good = update(state, feed)
            sums = jax.tree.map(lambda s, v: s + jnp.where(good, v, 0), sums, values)
            return i + 1, state, sums, made + good, ~good & stops

        values = jax.eval_shape(update, state, feed)[1]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), values)
        start = (0, state, zeros, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
        _, state, sums, made, failed = jax.lax.while_loop(unfinished, body, start)
        return state, jax.tree.map(lambda leaf: leaf / made, sums), failed

    return jax.jit(run, donate_argnums=0)


def _finite(tree: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
