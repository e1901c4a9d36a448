"""The pictures of a run: its learning curve, and one episode before and after adaptation."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.extras import require
from maml_jax.training import metrics
from maml_jax.training.build import Problem
from maml_jax.training.config import Config
from maml_jax.types import Batch, Episode, Meta, MetaLearner

GOOD, BAD, QUIET = "#1a7f4b", "#c0392b", "#888888"


def draw(run: Path, config: Config, problem: Problem, meta: Meta) -> list[Path]:
    """Draw both pictures into the run's folder; return their paths."""
    source = problem.data.tasks(
        "test", ways=config.ways, shots=config.shots, queries=_queries(config)
    )
    key = jax.random.fold_in(jax.random.key(config.seed), 3)
    episode = jax.jit(source.sample)(source.store, source.items(key))
    adapting = _sine if config.data == "sinusoid" else _grid
    figures = {
        "learning_curve.png": _learning_curve(metrics.read(run), config),
        "episode.png": adapting(problem.learner, meta, episode, config),
    }
    for name, figure in figures.items():
        figure.savefig(run / name, dpi=120, bbox_inches="tight")
    return [run / name for name in figures]


def _queries(config: Config) -> int:
    return 100 if config.data == "sinusoid" else min(config.queries, 4) if config.ways > 5 else 4


def _figure(width: float, height: float) -> Any:
    return require("matplotlib.figure", "cli").Figure(figsize=(width, height))


def _learning_curve(records: list[dict[str, Any]], config: Config) -> Any:
    training = [record for record in records if "validation" not in record]
    validations = [record for record in records if "validation" in record]
    name = "accuracy" if training and "accuracy" in training[0] else "loss"
    scale, unit = (100, "accuracy, %") if name == "accuracy" else (1, "mean squared error")
    figure = _figure(6, 4)
    axes = figure.subplots()

    def column(records, name):
        """One value of each record; what was not finite is null in the log and NaN here."""
        return scale * np.array([record[name] for record in records], float)

    axes.plot(
        [record["update"] for record in training],
        column(training, name),
        color=QUIET,
        linewidth=1,
        label=f"training tasks, {config.inner_steps} inner steps",
    )
    if validations:
        judged = [record["validation"] for record in validations]
        axes.errorbar(
            [record["update"] for record in validations],
            column(judged, name),
            column(judged, f"{name}_ci95"),
            color=GOOD,
            capsize=2,
            label=f"validation tasks, {config.evaluation_steps} inner steps (95 % interval)",
        )
    axes.set(xlabel="updates", ylabel=unit, title=f"{config.recipe}: {config.algorithm}")
    if name == "loss":
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _grid(learner: MetaLearner, meta: Meta, episode: Episode, config: Config) -> Any:
    """The support set, then the queries with what the model says of them before and after."""
    outputs = _outputs(learner, meta, episode.support, episode.query.x, config)
    before, after = outputs.argmax(-1)[[0, -1]]
    ways = config.ways
    shots, queries = len(episode.support.y) // ways, len(episode.query.y) // ways
    # Class by class in columns, for the examples come class by class.
    support = np.asarray(episode.support.x).reshape(ways, shots, *episode.support.x.shape[1:])
    query = np.asarray(episode.query.x).reshape(ways, queries, *episode.query.x.shape[1:])
    rows = shots + 2 * queries
    figure = _figure(1.1 * ways + 2.2, 1.15 * rows)
    panels = figure.subplots(rows, ways, squeeze=False)
    for label in range(ways):
        for i in range(shots):
            _picture(panels[i, label], support[label, i], f"class {label}", QUIET)
        for i in range(queries):
            for predictions, first in ((before, shots), (after, shots + queries)):
                said = predictions[label * queries + i]
                colour = GOOD if said == label else BAD
                _picture(panels[first + i, label], query[label, i], f"says {said}", colour)
    accuracy = [
        100 * float((said == np.asarray(episode.query.y)).mean()) for said in (before, after)
    ]
    titles = {
        0: "support:\nlabelled",
        shots: f"query, before:\n{accuracy[0]:.0f} % right",
        shots
        + queries: f"query, after\n{config.evaluation_steps} steps:\n{accuracy[1]:.0f} % right",
    }
    for row, title in titles.items():
        panels[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _outputs(
    learner: MetaLearner, meta: Meta, support: Batch, x: jax.Array, config: Config
) -> np.ndarray:
    """What the model says of `x` after 0, 1, … inner steps, `[steps + 1, examples, outputs]`."""

    def outputs(meta, support, x):
        path = learner.trajectory(meta, support, config.evaluation_steps)
        return jax.lax.map(lambda fast: learner.predict(fast, x), path)

    return np.asarray(jax.jit(outputs)(meta, support, x))


def _picture(axes: Any, example: np.ndarray, title: str, colour: str) -> None:
    if example.ndim == 2:  # a sequence of points
        axes.plot(*example.T, color="black", linewidth=1)
    else:
        axes.imshow(example.squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=8, color=colour, pad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=colour, linewidth=2)


def _sine(learner: MetaLearner, meta: Meta, episode: Episode, config: Config) -> Any:
    """The curve, the support points, and the model's curve after 0, 1 and all evaluation steps."""
    order = np.asarray(episode.query.x[:, 0]).argsort()
    x = jnp.asarray(episode.query.x)[order]
    curves = _outputs(learner, meta, episode.support, x, config)
    figure = _figure(7, 4)
    axes = figure.subplots()
    axes.plot(x[:, 0], episode.query.y[order, 0], color="black", label="the task")
    axes.plot(*(np.asarray(a)[:, 0] for a in episode.support), "o", color="black", label="support")
    styles = {0: (QUIET, ":"), 1: (BAD, "--"), config.evaluation_steps: (GOOD, "-")}
    for step, (colour, style) in styles.items():
        if step < len(curves):
            axes.plot(x[:, 0], curves[step, :, 0], style, color=colour, label=f"{step} steps")
    axes.set(xlabel="x", ylabel="y", title="One task, before and after adaptation")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
