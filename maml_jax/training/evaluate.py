"""How well a learner adapts to tasks it never saw, with an interval."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.data import TaskSource
from maml_jax.losses import accuracy, is_classification
from maml_jax.training.metrics import confidence_95
from maml_jax.types import Episode, Meta, MetaLearner, Params

TASKS_PER_DISPATCH = 50


class Evaluator:
    """Judges a learner on the tasks of `source`; compiles once.

    Args:
      learner: the learner.
      source: where tasks come from.
      steps: inner steps, at least 0.
      transductive: predict a task's queries together, so that batch norm sees all of them; if
        not, each in a batch with the support set alone (both in Nichol et al. 2018, §6.1).
      per_step: judge the weights after every step, and not the last alone.
    """

    def __init__(
        self,
        learner: MetaLearner,
        source: TaskSource,
        *,
        steps: int,
        transductive: bool = True,
        per_step: bool = True,
    ):
        predict = _together if transductive else _one_by_one

        def one_task(meta: Meta, store: Any, item: Any) -> dict[str, jax.Array]:
            episode = source.sample(store, item)
            if per_step:
                path = learner.trajectory(meta, episode.support, steps)
            else:
                last = learner.adapt(meta, episode.support, steps)
                path = jax.tree.map(lambda leaf: leaf[None], last)

            def judge(fast):
                outputs = predict(learner, fast, episode)
                scores = {"loss": learner.loss(outputs, episode.query.y)}
                if is_classification(outputs, episode.query.y):
                    scores["accuracy"] = accuracy(outputs, episode.query.y)
                return scores

            scores = jax.lax.map(judge, path)
            if "accuracy" in scores and episode.query.x.ndim > 2:
                scores["nearest_neighbour"] = _nearest_neighbour(episode)
            return scores

        side_by_side = None if jax.default_backend() == "cpu" else TASKS_PER_DISPATCH

        @jax.jit
        def many(meta, store, items):
            return jax.lax.map(
                lambda item: one_task(meta, store, item), items, batch_size=side_by_side
            )

        self._many, self._source = many, source

    def __call__(
        self,
        meta: Meta,
        *,
        tasks: int,
        key: jax.Array,
        progress: Callable[[int], Any] = lambda _: None,
    ) -> dict[str, np.ndarray]:
        """Scores per task: `loss`, and `accuracy` for classification, each `[tasks, steps + 1]`,
        or `[tasks, 1]` without `per_step`.

        For images also `nearest_neighbour`, `[tasks]`: the accuracy of the label of the nearest
        support image, by Euclidean distance between pixels. `progress` is told of tasks done.
        """
        at_once = min(tasks, TASKS_PER_DISPATCH)
        # A last, shorter dispatch would compile again: it is filled up, and the surplus left out.
        keys = jax.random.split(key, -(-tasks // at_once) * at_once)
        parts = []
        for start in range(0, tasks, at_once):
            items = self._source.items(keys[start : start + at_once])
            some = self._many(meta, self._source.store, items)
            parts.append(jax.tree.map(np.asarray, some))
            progress(min(at_once, tasks - start))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:tasks], *parts)


def summary(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means and 95 % intervals of an evaluation, as JSON; `…_per_step` counts from step 0."""
    result: dict[str, Any] = {}
    for name in ("accuracy", "loss"):
        if name in scores:
            mean, interval = scores[name].mean(0), confidence_95(scores[name])
            result[name], result[f"{name}_ci95"] = float(mean[-1]), float(interval[-1])
            result[f"{name}_per_step"] = [float(value) for value in mean]
            result[f"{name}_per_step_ci95"] = [float(value) for value in interval]
    if "nearest_neighbour" in scores:
        result["nearest_neighbour"] = {
            "accuracy": float(scores["nearest_neighbour"].mean()),
            "accuracy_ci95": float(confidence_95(scores["nearest_neighbour"])),
        }
    return result


def _together(learner: MetaLearner, fast: Params, episode: Episode) -> jax.Array:
    return learner.predict(fast, episode.query.x)


def _one_by_one(learner: MetaLearner, fast: Params, episode: Episode) -> jax.Array:
    def one(x):
        return learner.predict(fast, jnp.concatenate([episode.support.x, x[None]]))[-1]

    return jax.lax.map(one, episode.query.x)


def _nearest_neighbour(episode: Episode) -> jax.Array:
    support = episode.support.x.reshape(len(episode.support.x), -1)
    query = episode.query.x.reshape(len(episode.query.x), -1)
    distances = jnp.square(query[:, None] - support[None]).sum(-1)
    return (episode.support.y[distances.argmin(1)] == episode.query.y).mean()
