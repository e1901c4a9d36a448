"""Which classes are taken for one another, over many tasks."""

from collections import Counter
from typing import NamedTuple

import numpy as np


class Pair(NamedTuple):
    """Two classes, by their numbers in the split, and how often one was taken for the other."""

    classes: tuple[int, int]
    wrong: tuple[int, int]
    """The queries of each that were taken for the other."""
    queries: tuple[int, int]
    """The queries of each in tasks that had both."""
    task: int
    """The first task in which one was taken for the other."""


def confused_pairs(classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> list[Pair]:
    """The pairs of classes that were taken for one another, the most often first.

    Pairs as often confused are ordered by the part of their queries that was wrong.

    Args:
      classes: `[tasks, ways]`, the number in the split of each class of a task.
      labels: `[tasks, queries]`, the place of each query's class in the task.
      predicted: `[tasks, queries]`, the place of the class that it was taken for.
    """
    wrong: Counter[tuple[int, int]] = Counter()
    first: dict[tuple[int, int], int] = {}
    for task, query in np.argwhere(labels != predicted):
        true, taken = (classes[task, part[task, query]] for part in (labels, predicted))
        wrong[int(true), int(taken)] += 1
        first.setdefault((min(int(true), int(taken)), max(int(true), int(taken))), int(task))
    queries = _queries_together(classes, labels, set(first))
    pairs = [
        Pair(
            (a, b),
            (wrong[a, b], wrong[b, a]),
            (queries[a, b], queries[b, a]),
            task,
        )
        for (a, b), task in first.items()
    ]
    return sorted(pairs, key=lambda pair: (-sum(pair.wrong), sum(pair.queries), pair.classes))


def _queries_together(
    classes: np.ndarray, labels: np.ndarray, pairs: set[tuple[int, int]]
) -> Counter[tuple[int, int]]:
    """For each of `pairs`, in both orders, the queries of the first in tasks that have both."""
    count: Counter[tuple[int, int]] = Counter()
    for of_task, of_queries in zip(classes, labels, strict=True):
        each = np.bincount(of_queries, minlength=len(of_task))
        for i, a in enumerate(of_task.tolist()):
            for b in of_task.tolist():
                if (min(a, b), max(a, b)) in pairs and a != b:
                    count[a, b] += int(each[i])
    return count
