"""What the report of a run shows, as plain data."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Setting:
    """An option of the run."""

    group: str
    """The group that `maml-jax train --help` shows it in."""
    name: str
    value: Any
    default: Any
    """That of the recipe and the algorithm."""


@dataclass(frozen=True)
class Step:
    """A mean over the evaluated tasks after some inner steps, and half its 95 % interval."""

    steps: int
    mean: float
    ci95: float


@dataclass(frozen=True)
class Results:
    """An evaluation: accuracies, which are fractions, or in regression losses."""

    name: str
    """`accuracy` or `loss`."""
    title: str
    """What it is called, like `mean squared error`."""
    tasks: int
    queries: int
    """Query examples per class; of regression, query points."""
    split: str
    per_step: list[Step]
    nearest_neighbour: Step | None = None
    """The label of the nearest support example as the prediction; its `steps` say nothing."""


@dataclass(frozen=True)
class Query:
    """A query example, and what it was taken for."""

    x: np.ndarray
    before: int
    """The class in the task that was predicted before adaptation."""
    after: int


@dataclass(frozen=True)
class TaskClass:
    """A class of a task."""

    name: str
    support: list[np.ndarray]
    queries: list[Query]


@dataclass(frozen=True)
class Points:
    """A task of regression. With one input, predictions are a curve over x, else over targets."""

    support: tuple[np.ndarray, np.ndarray]
    """x and y, `[points]`; with several inputs the targets, twice."""
    query: tuple[np.ndarray, np.ndarray]
    """Likewise."""
    x: np.ndarray
    """`[predictions]`, where predictions were made."""
    predictions: dict[int, np.ndarray]
    """`[predictions]`, after so many inner steps."""
    over_targets: bool


@dataclass(frozen=True)
class ShownTask:
    """An evaluated task."""

    number: int
    """Its place among the evaluated tasks, from 1."""
    before: float
    """The accuracy or loss before adaptation."""
    after: float
    classes: list[TaskClass] = field(default_factory=list)
    points: Points | None = None


@dataclass(frozen=True)
class ConfusedClass:
    """One of two classes that are taken for one another."""

    name: str
    example: np.ndarray
    wrong: int
    """Its queries that were taken for the other class."""
    queries: int
    """Its queries in tasks that had both classes."""


@dataclass(frozen=True)
class Tested:
    """What needs the data of a run."""

    results: Results
    first: list[ShownTask]
    """The first of the evaluated tasks."""
    hardest: list[ShownTask]
    """Those with the lowest accuracy or the highest loss, the worst first."""
    confused: list[tuple[ConfusedClass, ConfusedClass]] | None
    """The classes most often taken for one another; None where that is not known."""


@dataclass(frozen=True)
class Contents:
    """All that the page of a run shows."""

    name: str
    """The name of the run's folder."""
    summary: str
    """Algorithm, data and kind of tasks in one line."""
    kind: str
    """What an example is: `images`, `sequences`, `vectors` or `regression`."""
    updates: int
    """How many were made."""
    settings: list[Setting]
    log: list[dict[str, Any]]
    """What training logged; empty where the run has no log."""
    tested: Tested | None
    missing: str | None
    """Why there is nothing that needs the data."""
    versions: dict[str, str]
    """Seeds, versions, device and commit."""
    commands: list[tuple[str, str]]
    """How to make the run and its figures again: what a command does, and the command."""
