"""The pictures in the folder of a run."""

from pathlib import Path

import jax

from maml_jax.data import DataSet, TaskSource
from maml_jax.errors import InputError
from maml_jax.training import metrics
from maml_jax.training.config import Config
from maml_jax.training.plots import QUERIES_SHOWN, plot_curve, plot_episode
from maml_jax.types import Meta, MetaLearner

POINTS_SHOWN = 100
"""Query points that show a curve well."""


def draw(
    run: Path | str, config: Config, learner: MetaLearner, meta: Meta, data: DataSet
) -> list[Path]:
    """Draw the learning curve and an episode into the folder of a run; the new files."""
    run = Path(run)
    # A run of imported weights has learned nothing yet.
    figures = {"learning_curve.png": plot_curve(run)} if metrics.read(run) else {}
    tasks = _test_tasks(config, data)
    key = jax.random.fold_in(jax.random.key(config.seed), 3)
    episode = jax.jit(tasks.sample)(tasks.store, tasks.items(key))
    figures["episode.png"] = plot_episode(learner, meta, episode, steps=config.evaluation_steps)
    for name, figure in figures.items():
        figure.savefig(run / name, dpi=120, bbox_inches="tight")
    return [run / name for name in figures]


def _test_tasks(config: Config, data: DataSet) -> TaskSource:
    """Tasks with as many queries as a picture shows, or where classes are too small, as trained."""
    queries = POINTS_SHOWN if data.kind == "regression" else QUERIES_SHOWN
    try:
        return data.tasks("test", ways=config.ways, shots=config.shots, queries=queries)
    except InputError:
        return data.tasks("test", ways=config.ways, shots=config.shots, queries=config.queries)
