"""Meta-training: many updates per dispatch on the device; the host only logs and saves."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maml_jax import metrics
from maml_jax.build import Problem
from maml_jax.checkpoint import Checkpoints
from maml_jax.config import Config
from maml_jax.data import TaskSource
from maml_jax.evaluate import Evaluator, summary
from maml_jax.extras import require
from maml_jax.tasks import over_tasks, task_mesh
from maml_jax.types import Meta, MetaLearner


class State(NamedTuple):
    """All that an update changes; with the config and the seed it decides the rest of the run."""

    meta: Meta
    optimizer: Any
    update: jax.Array
    """How many updates were made, int32."""


class TrainingError(RuntimeError):
    """Training cannot go on; the last checkpoint is good."""


def outer_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam at the rate of the config, which by default falls along half a cosine to 0."""
    rate = config.meta_lr
    if config.meta_schedule == "cosine":
        rate = optax.cosine_decay_schedule(config.meta_lr, config.updates)
    return optax.adam(rate)


def initial_state(problem: Problem, config: Config) -> State:
    meta = problem.learner.init(problem.params)
    return State(meta, outer_optimizer(config).init(meta), jnp.zeros((), jnp.int32))


def training_tasks(config: Config, problem: Problem) -> TaskSource:
    """The tasks to learn from: those of the train split, in the form that the algorithm takes."""
    return problem.data.tasks(
        "train",
        ways=config.ways,
        shots=config.training_shots or config.shots,
        queries=config.queries,
        by_class=config.algorithm == "pretrained",
    )


def make_updates(
    learner: MetaLearner, source: TaskSource, config: Config, mesh: Mesh
) -> Callable[[State, Any, int], tuple[State, dict[str, jax.Array]]]:
    """`run(state, store, n) -> (state, metrics)`: `n` updates in one dispatch, metrics their means.

    The state's memory is reused. `n` is an argument of the compiled program: it compiles once.
    """
    step = over_tasks(learner, config.chunk, mesh)
    optimizer = outer_optimizer(config)
    task_key = jax.random.fold_in(jax.random.key(config.seed), 1)

    def update(state: State, store: Any) -> tuple[State, dict[str, jax.Array]]:
        keys = jax.random.split(jax.random.fold_in(task_key, state.update), config.tasks)
        episodes = jax.vmap(source.sample, in_axes=(None, 0))(store, keys)
        (_, values), grads = step(state.meta, episodes, state.update / config.updates)
        changes, moments = optimizer.update(grads, state.optimizer, state.meta)
        return State(optax.apply_updates(state.meta, changes), moments, state.update + 1), values

    def run(state, store, n):
        def body(_, carry):
            state, sums = carry
            state, values = update(state, store)
            return state, jax.tree.map(jnp.add, sums, values)

        values = jax.eval_shape(update, state, store)[1]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), values)
        state, sums = jax.lax.fori_loop(0, n, body, (state, zeros))
        return state, jax.tree.map(lambda leaf: leaf / n, sums)

    return jax.jit(run, donate_argnums=0)


def train(
    config: Config, run: Path, problem: Problem, state: State, *, quiet: bool = False
) -> State:
    """Train in the folder `run` from `state` until `config.updates`, or until interrupted.

    Writes `metrics.jsonl` (a line per dispatch, and one per validation) and `checkpoints/`.
    SIGINT and SIGTERM end it after the dispatch in flight, with a checkpoint.

    Returns:
      The last state; its `update` is below `config.updates` where training was interrupted.

    Raises:
      TrainingError: the loss is not finite; the last checkpoint stays.
    """
    checkpoints = Checkpoints(run)
    log = run / "metrics.jsonl"
    if log.exists():  # what was logged after the state was saved will be logged again
        kept = [record for record in metrics.read(log) if record["update"] <= state.update]
        metrics.rewrite(log, kept)
    source = training_tasks(config, problem)
    mesh = task_mesh(config.tasks)
    updates = make_updates(problem.learner, source, config, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    state, store = jax.device_put((state, source.store), everywhere)
    validate = _validator(problem, config)
    done = int(state.update)
    with _bar(config, done, quiet) as bar, _interruption() as interrupted:
        while done < config.updates and not interrupted():
            n = _until_next(done, config)
            state, values = updates(state, store, n)
            record = {name: float(value) for name, value in values.items()}
            done += n
            if not math.isfinite(record["loss"]):
                raise TrainingError(
                    f"the loss was {record['loss']} within the {n} updates up to {done}; "
                    f"the last checkpoint is kept. A smaller `inner_lr` or `meta_lr` may help."
                )
            metrics.append(log, {"update": done, **record})
            bar.set_postfix({name: f"{value:.3f}" for name, value in record.items()}, refresh=False)
            bar.update(n)
            if config.validate_every and done % config.validate_every == 0:
                metrics.append(log, {"update": done, "validation": validate(state.meta)})
            if done % config.checkpoint_every == 0:
                checkpoints.save(done, state)
    checkpoints.save(done, state)
    return jax.tree.map(np.asarray, state)


def _until_next(done: int, config: Config) -> int:
    """How many updates to the next multiple of anything that the host does."""
    periods = [config.updates_per_dispatch, config.checkpoint_every, config.validate_every]
    steps = [period - done % period for period in periods if period]
    return min(*steps, config.updates - done)


def _validator(problem: Problem, config: Config) -> Callable[[Meta], dict[str, Any]]:
    source = problem.data.tasks("val", ways=config.ways, shots=config.shots, queries=config.queries)
    evaluator = Evaluator(problem.learner, source, steps=config.evaluation_steps)
    key = jax.random.fold_in(jax.random.key(config.seed), 2)

    def validate(meta: Meta) -> dict[str, Any]:
        meta = jax.tree.map(np.asarray, meta)  # away from the mesh, or every device would do it all
        return summary(evaluator(meta, tasks=config.validation_tasks, key=key))

    return validate


def _bar(config: Config, done: int, quiet: bool) -> Any:
    tqdm = require("tqdm", "cli").tqdm
    return tqdm(
        total=config.updates, initial=done, unit="update", desc=config.recipe, disable=quiet
    )


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM came; a second one has its usual effect."""
    received = []

    def note(number, _):
        received.append(number)
        signal.signal(number, previous[number])

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
