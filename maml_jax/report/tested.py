"""What a report shows of a run's tests: the evaluation, some tasks, and confused classes."""

from collections.abc import Callable

import numpy as np

from maml_jax.data import DataSet, TaskSource
from maml_jax.data.sources import queries_in
from maml_jax.report.confusion import Pair, confused_pairs
from maml_jax.report.contents import (
    ConfusedClass,
    Results,
    ShownTask,
    Step,
    Tested,
)
from maml_jax.report.shown import classes_of, episodes_of, names_of, points_of, task_classes
from maml_jax.training.config import Config
from maml_jax.training.evaluate import Evaluator, Scores, evaluation_key, keys_of_tasks
from maml_jax.training.provenance import name_of_loss
from maml_jax.training.runs import QUERIES, Restored
from maml_jax.types import Episode

FIRST, HARDEST = 2, 3
"""Tasks shown of each."""
PAIRS_SHOWN = 10
"""Pairs of classes that are taken for one another."""
SPLIT = "test"


def evaluated(
    restored: Restored,
    data: DataSet,
    *,
    tasks: int,
    seed: int,
    progress: Callable[[int], object],
) -> Tested:
    """Evaluate a run as `maml-jax evaluate` does, and pick what the page shows.

    Args:
      restored: the run.
      data: that of its training.
      tasks: how many tasks of the test split.
      seed: decides them.
      progress: told of tasks done.

    Raises:
      InputError: `tasks` or `seed` out of range.
    """
    config = restored.config
    queries = queries_in(data, SPLIT, config.shots, QUERIES)
    source = _source(data, config, queries)
    evaluator = Evaluator(
        restored.learner, source, steps=config.evaluation_steps, keep_predictions=True
    )
    key = evaluation_key(seed)
    scores = evaluator(restored.state.meta, tasks=tasks, key=key, progress=progress)
    keys = keys_of_tasks(key, tasks)[:tasks]
    name = "loss" if scores.accuracy is None else "accuracy"
    title = name if name == "accuracy" else name_of_loss(restored.learner.loss).replace("_", " ")
    # What is not a number is the worst of all.
    badness = np.nan_to_num(_per_task(scores)[:, -1] * (1 if name == "loss" else -1), nan=np.inf)
    first = list(range(min(FIRST, tasks)))
    hardest = np.argsort(-badness, kind="stable")[:HARDEST].tolist()
    pairs, classes = None, None
    if name == "accuracy":
        classes = classes_of(_source(data, config, queries, by_class=True), source, keys)
    if classes is not None and scores.predictions_per_task is not None:
        labels = np.repeat(np.arange(config.ways), queries)[None].repeat(tasks, 0)
        pairs = confused_pairs(classes, labels, scores.predictions_per_task[:, -1])[:PAIRS_SHOWN]
    needed = sorted({*first, *hardest, *(pair.task for pair in pairs or [])})
    episodes = dict(zip(needed, episodes_of(source, keys[np.array(needed)]), strict=True))

    def shown(number: int, *, wrong_first: bool) -> ShownTask:
        before, after = map(float, _per_task(scores)[number, [0, -1]])
        if name == "loss":
            points = points_of(restored, episodes[number])
            return ShownTask(number + 1, before, after, points=points)
        names = (
            [f"class {n}" for n in range(config.ways)]
            if classes is None
            else names_of(data, SPLIT, classes[number])
        )
        predicted = scores.predictions_per_task
        of_task = (
            []
            if predicted is None
            else task_classes(episodes[number], predicted[number], names, wrong_first=wrong_first)
        )
        return ShownTask(number + 1, before, after, of_task)

    return Tested(
        results=_results(scores, name, title, queries),
        first=[shown(number, wrong_first=False) for number in first],
        hardest=[shown(number, wrong_first=True) for number in hardest],
        confused=None
        if pairs is None or classes is None
        else [_confused(data, pair, classes[pair.task], episodes[pair.task]) for pair in pairs],
    )


def _source(data: DataSet, config: Config, queries: int, *, by_class: bool = False) -> TaskSource:
    return data.tasks(
        SPLIT, ways=config.ways, shots=config.shots, queries=queries, by_class=by_class
    )


def _per_task(scores: Scores) -> np.ndarray:
    """`[tasks, steps + 1]`, accuracies, or else losses."""
    return scores.loss_per_task if scores.accuracy_per_task is None else scores.accuracy_per_task


def _results(scores: Scores, name: str, title: str, queries: int) -> Results:
    means, intervals = getattr(scores, f"{name}_per_step"), getattr(scores, f"{name}_per_step_ci95")
    nearest = None
    if scores.nearest_neighbour_per_task is not None:
        found = scores.to_json()["nearest_neighbour"]
        nearest = Step(0, found["accuracy"], found["accuracy_ci95"])
    return Results(
        name=name,
        title=title,
        tasks=scores.tasks,
        queries=queries,
        split=SPLIT,
        per_step=[
            Step(step, float(mean), float(interval))
            for step, (mean, interval) in enumerate(zip(means, intervals, strict=True))
        ],
        nearest_neighbour=nearest,
    )


def _confused(
    data: DataSet, pair: Pair, of_task: np.ndarray, episode: Episode
) -> tuple[ConfusedClass, ConfusedClass]:
    """The two classes, each with a support example of a task that has both."""
    places = [int(np.flatnonzero(of_task == number)[0]) for number in pair.classes]
    examples = [episode.support.x[episode.support.y == place][0] for place in places]
    one, other = (
        ConfusedClass(name, example, wrong, queries)
        for name, example, wrong, queries in zip(
            names_of(data, SPLIT, pair.classes), examples, pair.wrong, pair.queries, strict=True
        )
    )
    return one, other
