"""How well a learner adapts to tasks it never saw, with an interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from maml_jax.batching.devices import AXIS, local_mesh
from maml_jax.core.learner import beside
from maml_jax.data import TaskSource
from maml_jax.errors import InputError, check_count, check_seed
from maml_jax.losses import accuracy, is_classification
from maml_jax.training.metrics import confidence_95
from maml_jax.types import Episode, Examples, Meta, MetaLearner, Params

TASKS_PER_DISPATCH = 50


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """The scores of a learner on the query sets of many tasks, after adapting to their support.

    The fields hold a value for each task; the properties are means over tasks, and `…_ci95` half
    the width of their 95 % intervals. Accuracies are fractions; where `y` are not classes they are
    None. Columns count inner steps: the first is before adaptation, the last after all steps; if
    only the last was evaluated (`per_step=False`) it is the only one.
    """

    loss_per_task: np.ndarray
    """`[tasks, steps + 1]`, or `[tasks, 1]`."""
    accuracy_per_task: np.ndarray | None = None
    """`[tasks, steps + 1]`, or `[tasks, 1]`."""
    nearest_neighbour_per_task: np.ndarray | None = None
    """`[tasks]`, a baseline for images and sequences: the accuracy of the label of the support
    example at the smallest Euclidean distance."""
    predictions_per_task: np.ndarray | None = None
    """`[tasks, steps + 1, queries]`, classes, where an `Evaluator` was to keep them."""

    @property
    def tasks(self) -> int:
        """How many tasks."""
        return len(self.loss_per_task)

    @property
    def loss(self) -> float:
        """After the last step."""
        return float(self.loss_per_step[-1])

    @property
    def loss_ci95(self) -> float:
        """After the last step."""
        return float(self.loss_per_step_ci95[-1])

    @property
    def loss_per_step(self) -> np.ndarray:
        """`[steps + 1]`."""
        return self.loss_per_task.mean(0)

    @property
    def loss_per_step_ci95(self) -> np.ndarray:
        """`[steps + 1]`."""
        return confidence_95(self.loss_per_task)

    @property
    def accuracy(self) -> float | None:
        """After the last step."""
        means = self.accuracy_per_step
        return None if means is None else float(means[-1])

    @property
    def accuracy_ci95(self) -> float | None:
        """After the last step."""
        intervals = self.accuracy_per_step_ci95
        return None if intervals is None else float(intervals[-1])

    @property
    def accuracy_per_step(self) -> np.ndarray | None:
        """`[steps + 1]`."""
        return None if self.accuracy_per_task is None else self.accuracy_per_task.mean(0)

    @property
    def accuracy_per_step_ci95(self) -> np.ndarray | None:
        """`[steps + 1]`."""
        return None if self.accuracy_per_task is None else confidence_95(self.accuracy_per_task)

    def __repr__(self) -> str:
        tasks = f"over {self.tasks} tasks (95 % interval)"
        if self.accuracy is None or self.accuracy_ci95 is None:
            return f"loss {_with_interval(self.loss, self.loss_ci95)} {tasks}"
        return f"accuracy {100 * self.accuracy:.1f} ± {100 * self.accuracy_ci95:.1f} % {tasks}"

    def to_json(self) -> dict[str, Any]:
        """Means and intervals; `…_per_step` counts from step 0."""
        result: dict[str, Any] = {}
        for name in ("accuracy", "loss"):
            if getattr(self, name) is None:
                continue
            for suffix in ("", "_ci95"):
                result[name + suffix] = getattr(self, name + suffix)
            for suffix in ("_per_step", "_per_step_ci95"):
                result[name + suffix] = getattr(self, name + suffix).tolist()
        if self.nearest_neighbour_per_task is not None:
            result["nearest_neighbour"] = {
                "accuracy": float(self.nearest_neighbour_per_task.mean()),
                "accuracy_ci95": float(confidence_95(self.nearest_neighbour_per_task)),
            }
        return result


def evaluate(
    learner: MetaLearner,
    meta: Meta,
    tasks: TaskSource,
    *,
    count: int = 600,
    steps: int | None = None,
    transductive: bool = True,
    per_step: bool = True,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> Scores:
    """Adapt to `count` new tasks, each by itself, and score the predictions on their query sets.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      tasks: where tasks come from, like `data.tasks("test", ways=5, shots=1, queries=15)`.
      count: how many tasks.
      steps: inner steps; None: those of training.
      transductive: predict a task's queries together, so that batch norm sees all of them, as in
        Finn et al. 2017; if not, each query beside the support set alone (both in Nichol et al.
        2018, §6.1).
      per_step: score the weights after every inner step, and not only after the last, which is
        faster.
      seed: decides the tasks.
      progress: called with the number of tasks done since the last call.

    Returns:
      `Scores`: `scores.accuracy`, `scores.accuracy_ci95`, `scores.loss_per_step` and so on.

    Raises:
      InputError: an argument out of its range.
    """
    if not isinstance(tasks, TaskSource):
        raise InputError(
            f"`tasks` was a {type(tasks).__name__}; it must be a source of tasks, like "
            "data.tasks('test', ways=5, shots=1, queries=15)."
        )
    check_count("count", count)
    check_seed("seed", seed)
    if not callable(progress):
        raise InputError(
            f"`progress` was {progress!r}; it must be a function of the number of tasks done: "
            "leave it out to see nothing."
        )
    if steps is not None:
        check_count("steps", steps, least=0)
    evaluator = Evaluator(learner, tasks, steps=steps, transductive=transductive, per_step=per_step)
    return evaluator(meta, tasks=count, key=evaluation_key(seed), progress=progress)


def evaluation_key(seed: int) -> jax.Array:
    """The random key of an evaluation with this seed."""
    return jax.random.fold_in(jax.random.key(seed), 4)


def keys_of_tasks(key: jax.Array, tasks: int) -> jax.Array:
    """The keys of the tasks that an `Evaluator` draws, `[tasks or a few more]`.

    A last, shorter dispatch would compile again: it is filled up, and the surplus left out.
    """
    at_once = min(tasks, TASKS_PER_DISPATCH)
    return jax.random.split(key, -(-tasks // at_once) * at_once)


class Evaluator:
    """Scores a learner on the tasks of `source`, as `evaluate` does, and compiles once.

    After `use_all_cores` tasks are dealt over all devices of this process.

    With `keep_predictions` the scores hold the predicted classes too.
    """

    def __init__(
        self,
        learner: MetaLearner,
        source: TaskSource,
        *,
        steps: int | None,
        transductive: bool = True,
        per_step: bool = True,
        keep_predictions: bool = False,
    ):

        def outputs_per_step(meta: Meta, episode: Episode) -> Examples:
            """The outputs for the queries, `[steps + 1, queries, …]` or `[1, queries, …]`."""
            support, x = episode.support, episode.query.x
            if not per_step:
                outputs = learner.classify(meta, support, x, transductive=transductive, steps=steps)
                return jax.tree.map(lambda leaf: leaf[None], outputs)

            def predict(fast: Params) -> Examples:
                if transductive:
                    return learner.predict(fast, x)
                return beside(learner.predict, fast, support.x, x)

            return jax.lax.map(predict, learner.trajectory(meta, support, steps))

        def one_task(meta: Meta, store: Any, item: Any) -> dict[str, jax.Array]:
            episode = source.sample(store, item)

            def score(outputs: Examples) -> dict[str, jax.Array]:
                scores = {"loss_per_task": learner.loss(outputs, episode.query.y)}
                if is_classification(outputs, episode.query.y):
                    scores["accuracy_per_task"] = accuracy(outputs, episode.query.y)
                    if keep_predictions:
                        scores["predictions_per_task"] = outputs.argmax(-1)
                return scores

            scores = jax.lax.map(score, outputs_per_step(meta, episode))
            if "accuracy_per_task" in scores and getattr(episode.query.x, "ndim", 0) > 2:
                scores["nearest_neighbour_per_task"] = _nearest_neighbour(episode)
            return scores

        side_by_side = None if jax.default_backend() == "cpu" else TASKS_PER_DISPATCH

        def many(meta: Meta, store: Any, items: Any) -> dict[str, jax.Array]:
            return jax.lax.map(
                lambda item: one_task(meta, store, item), items, batch_size=side_by_side
            )

        self._source, self._here = source, (jax.jit(many), source.store)
        self._mesh = local_mesh()
        if self._mesh is not None:
            everywhere, dealt = PartitionSpec(), PartitionSpec(AXIS)
            dealt_out = jax.shard_map(
                many,
                mesh=self._mesh,
                in_specs=(everywhere, everywhere, dealt),
                out_specs=dealt,
                check_vma=False,
            )
            self._everywhere = NamedSharding(self._mesh, everywhere)
            store = jax.device_put(source.store, self._everywhere)
            self._there = jax.jit(dealt_out), store

    def __call__(
        self,
        meta: Meta,
        *,
        tasks: int,
        key: jax.Array,
        progress: Callable[[int], object] = lambda _: None,
    ) -> Scores:
        """The scores on `tasks` tasks that `key` decides."""
        at_once, devices = min(tasks, TASKS_PER_DISPATCH), 1
        many, store = self._here
        if self._mesh is not None and not _is_sharded(meta):
            (many, store), devices = self._there, self._mesh.size
            meta = jax.device_put(meta, self._everywhere)
        keys = keys_of_tasks(key, tasks)
        spare = jnp.zeros(-at_once % devices, int)  # tasks that fill up the last device
        parts = []
        for start in range(0, tasks, at_once):
            some = keys[start : start + at_once]
            items = self._source.items(jnp.concatenate([some, some[spare]]))
            scores = many(meta, store, items)
            parts.append(jax.tree.map(lambda leaf: np.asarray(leaf)[:at_once], scores))
            progress(min(at_once, tasks - start))
        return Scores(**jax.tree.map(lambda *parts: np.concatenate(parts)[:tasks], *parts))


def _is_sharded(meta: Meta) -> bool:
    """Whether an array is dealt over devices, as `shard` does where it is too large for one."""
    arrays = (leaf for leaf in jax.tree.leaves(meta) if isinstance(leaf, jax.Array))
    return not all(array.sharding.is_fully_replicated for array in arrays)


def _with_interval(mean: float, interval: float) -> str:
    """`3.39 ± 0.65`: the interval with two digits, the mean to the same place."""
    if not 0 < interval < math.inf:
        return f"{mean:.4g} ± {interval:.2g}"
    places = max(0, 1 - math.floor(math.log10(interval)))
    return f"{mean:.{places}f} ± {interval:.{places}f}"


def _nearest_neighbour(episode: Episode) -> jax.Array:
    # In floating point: differences of bytes would wrap.
    support, query = (
        batch.x.reshape(len(batch.x), -1).astype(jnp.promote_types(batch.x.dtype, jnp.float32))
        for batch in (episode.support, episode.query)
    )
    distances = jnp.square(query[:, None] - support[None]).sum(-1)
    return (episode.support.y[distances.argmin(1)] == episode.query.y).mean()
