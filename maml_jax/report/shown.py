"""Evaluated tasks, drawn once more to be shown."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.data import DataSet, LabelledSet, TaskSource
from maml_jax.report.contents import Points, Query, TaskClass
from maml_jax.training.plots import QUERIES_SHOWN, outputs_per_step
from maml_jax.training.runs import Restored
from maml_jax.types import Episode

SUPPORT_SHOWN = 5
"""Support examples of a class that the page has room for."""
_CURVE = 80
"""Points of a curve of predictions."""


def episodes_of(source: TaskSource, keys: jax.Array) -> list[Episode]:
    """The episodes of these keys, on the host."""
    sample = jax.jit(source.sample)  # by itself, for tasks may be large
    return [jax.tree.map(np.asarray, sample(source.store, item)) for item in _items(source, keys)]


def _items(source: TaskSource, keys: jax.Array) -> Iterable[Any]:
    """What `source.sample` takes for each of these keys, one after another."""
    for n in range(len(keys)):
        yield jax.tree.map(lambda leaf: leaf[0], source.items(keys[n][None]))


def classes_of(by_class: TaskSource, source: TaskSource, keys: jax.Array) -> np.ndarray | None:
    """The number in the split of each class of each task, `[tasks, ways]`.

    None where a data set does not draw the same tasks with `by_class`.
    """

    @jax.jit
    def label(store: Any, item: Any) -> jax.Array:
        return by_class.sample(store, item).support.y

    one, other = (episodes_of(each, keys[:1])[0] for each in (by_class, source))
    if not np.array_equal(one.query.x, other.query.x):
        return None
    ways = len(np.unique(other.support.y))
    labels = [np.asarray(label(by_class.store, item)) for item in _items(by_class, keys)]
    return np.stack(labels).reshape(len(keys), ways, -1)[:, :, 0]


def names_of(data: DataSet, split: str, classes: Iterable[int]) -> list[str]:
    """What classes are called, by the numbers that they have in a split with `by_class`."""
    if not isinstance(data, LabelledSet):
        return [f"class {number}" for number in classes]
    names = []
    for number in classes:
        place, quarter_turns = divmod(int(number), 4) if data.rotate else (int(number), 0)
        turned = f", turned by {90 * quarter_turns}°" if quarter_turns else ""
        names.append(data.class_names[data.classes(split)[place]] + turned)
    return names


def task_classes(
    episode: Episode, predicted: np.ndarray, names: list[str], *, wrong_first: bool
) -> list[TaskClass]:
    """The classes of an episode with what their queries were taken for, `[steps + 1, queries]`."""
    classes = []
    for label, name in enumerate(names):
        asked = np.flatnonzero(episode.query.y == label)
        if wrong_first:
            asked = asked[np.argsort(predicted[-1, asked] == label, kind="stable")]
        queries = [
            Query(episode.query.x[i], int(predicted[0, i]), int(predicted[-1, i]))
            for i in asked[:QUERIES_SHOWN]
        ]
        support = list(episode.support.x[episode.support.y == label][:SUPPORT_SHOWN])
        classes.append(TaskClass(name, support, queries))
    return classes


def points_of(restored: Restored, episode: Episode) -> Points:
    """A task of regression with predictions after 0, 1 and all inner steps."""
    support, query = (
        tuple(leaf.reshape(len(leaf), -1) for leaf in part)
        for part in (episode.support, episode.query)
    )
    over_targets = query[0].shape[1] > 1 or query[1].shape[1] > 1
    at = episode.query.x
    if not over_targets:
        every = np.concatenate([support[0], query[0]])
        grid = np.linspace(every.min(), every.max(), _CURVE, dtype=np.float32)
        at = grid.reshape(_CURVE, *at.shape[1:])
    steps = restored.config.evaluation_steps
    outputs = outputs_per_step(
        restored.learner,
        jax.tree.map(jnp.asarray, restored.state.meta),
        jax.tree.map(jnp.asarray, episode.support),
        jnp.asarray(at),
        steps,
    )
    last = len(outputs) - 1
    if over_targets:
        support, query = ((part[1], part[1]) for part in (support, query))
    return Points(
        support=(support[0].ravel(), support[1].ravel()),
        query=(query[0].ravel(), query[1].ravel()),
        x=(query[0] if over_targets else at).ravel(),
        predictions={step: outputs[step].ravel() for step in sorted({0, min(1, last), last})},
        over_targets=over_targets,
    )
