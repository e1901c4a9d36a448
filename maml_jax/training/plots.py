"""Pictures of learning: the learning curve, and one episode before and after adaptation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.losses import is_classification
from maml_jax.training import metrics
from maml_jax.types import Batch, Episode, Meta, MetaLearner

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD, QUIET = "#1a7f4b", "#c0392b", "#888888"
QUERIES_SHOWN = 4
"""Query examples of a class that a picture has room for."""


def plot_curve(log: Sequence[dict[str, Any]] | Path | str) -> "Figure":
    """Draw a learning curve: accuracy over updates, or where there is none, the loss.

    Args:
      log: what `mj.train` returned as its log, or the folder of a run, whose validations are drawn
        with their 95 % intervals.

    Returns:
      A matplotlib figure: the last expression of a notebook's cell shows it, and
      `figure.savefig("curve.png")` writes it.

    Raises:
      InputError: there is no such folder, or nothing was logged yet.
    """
    title = "learning curve"
    if isinstance(log, Path | str):
        from maml_jax.training.config import read_config

        run = Path(log)
        config = read_config(run)
        title = f"{config.recipe}: {config.algorithm}"
        log = metrics.read(run)
    training = [entry for entry in log if "validation" not in entry]
    validations = [entry for entry in log if "validation" in entry]
    if not training:
        raise InputError("`log` was empty; a curve needs at least one entry.")
    name = "accuracy" if "accuracy" in training[0] else "loss"
    scale = 100 if name == "accuracy" else 1

    def column(entries: Sequence[dict[str, Any]], name: str) -> np.ndarray:
        """One value of each entry; what was not finite is null in the log and NaN here."""
        return scale * np.array([entry[name] for entry in entries], float)

    figure = _figure(6, 4)
    axes = figure.subplots()
    axes.plot(
        [entry["update"] for entry in training],
        column(training, name),
        color=QUIET,
        linewidth=1,
        marker="o" if len(training) == 1 else None,
        label="training tasks",
    )
    if validations:
        scores = [entry["validation"] for entry in validations]
        axes.errorbar(
            [entry["update"] for entry in validations],
            column(scores, name),
            column(scores, f"{name}_ci95"),
            color=GOOD,
            capsize=2,
            marker=".",
            label="validation tasks (95 % interval)",
        )
    axes.set(xlabel="updates", ylabel="accuracy, %" if scale == 100 else "loss", title=title)
    if name == "loss" and not (column(training, name) <= 0).any():
        axes.set_yscale("log")
    _tidy(axes)
    return figure


def plot_episode(
    learner: MetaLearner, meta: Meta, episode: Episode, *, steps: int | None = None
) -> "Figure":
    """Draw one episode before and after adaptation, by what its examples are.

    Where `y` are classes: the support set, a column for each class, and below it the query set with
    the predicted classes, green where they are right. Images are drawn as such, other arrays as
    curves. In regression from one number to another: the support points, and the predicted curve
    after 0, 1 and all steps; from several numbers, predictions over targets.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      episode: one task, without a task axis.
      steps: inner steps; None: those of training.

    Returns:
      A matplotlib figure: the last expression of a notebook's cell shows it, and
      `figure.savefig("episode.png")` writes it.

    Raises:
      InputError: the examples are no arrays, or there are several tasks.
    """
    leaves = jax.tree.leaves(episode)
    if len(leaves) != 4 or any(not hasattr(leaf, "ndim") for leaf in leaves):
        raise InputError("`episode` had examples that are not single arrays; they cannot be drawn.")
    labels = jnp.issubdtype(episode.query.y.dtype, jnp.integer)
    if episode.query.y.ndim > (1 if labels else 2):
        raise InputError(
            f"`episode` had y of shape {episode.query.y.shape}; what can be drawn is one task, "
            "without a task axis, with a label or a vector for each example."
        )
    outputs = outputs_per_step(learner, meta, episode.support, episode.query.x, steps)
    if is_classification(outputs[0], episode.query.y):
        return _draw_classes(episode, outputs)
    return _draw_regression(episode, outputs)


def outputs_per_step(
    learner: MetaLearner, meta: Meta, support: Batch, x: jax.Array, steps: int | None
) -> np.ndarray:
    """The outputs for `x` after 0, 1, … inner steps, `[steps + 1, examples, …]`."""

    @jax.jit
    def outputs(meta: Meta, support: Batch, x: jax.Array) -> jax.Array:
        path = learner.trajectory(meta, support, steps)
        return jax.lax.map(lambda fast: learner.predict(fast, x), path)

    return np.asarray(outputs(meta, support, jnp.asarray(x)))


def _draw_classes(episode: Episode, outputs: np.ndarray) -> "Figure":
    support, query = jax.tree.map(np.asarray, episode)
    classes = np.unique(support.y)
    before, after = outputs.argmax(-1)[[0, -1]]
    steps = len(outputs) - 1
    columns = [
        (np.flatnonzero(support.y == label), np.flatnonzero(query.y == label)[:QUERIES_SHOWN])
        for label in classes
    ]
    shots, queries = (max(len(rows) for rows in part) for part in zip(*columns, strict=True))
    figure = _figure(1.1 * len(classes) + 2.2, 1.15 * (shots + 2 * queries))
    panels = figure.subplots(shots + 2 * queries, len(classes), squeeze=False)
    for column, (label, (shown, asked)) in enumerate(zip(classes, columns, strict=True)):
        for axes, i in zip(panels[:shots, column], shown, strict=False):
            _draw_example(axes, support.x[i], f"class {label}", QUIET)
        for predicted, first in ((before, shots), (after, shots + queries)):
            for axes, i in zip(panels[first : first + queries, column], asked, strict=False):
                colour = GOOD if predicted[i] == label else BAD
                _draw_example(axes, query.x[i], f"says {predicted[i]}", colour)
    for axes in panels.flat:
        if not axes.has_data():  # a class with fewer examples than others
            axes.set_axis_off()
    right = [f"{100 * (predicted == query.y).mean():.0f} % right" for predicted in (before, after)]
    titles = {0: "support", shots: f"query,\nbefore:\n{right[0]}"}
    titles[shots + queries] = f"query,\nafter {steps}\nstep{'s' * (steps != 1)}:\n{right[1]}"
    for row, title in titles.items():
        panels[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _draw_example(axes: "Axes", example: np.ndarray, title: str, colour: str) -> None:
    if example.ndim == 3 and example.shape[-1] in (1, 3):
        image = example.squeeze(-1) if example.shape[-1] == 1 else example
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    elif example.ndim == 2 and example.shape[-1] == 2:  # a path in the plane
        axes.plot(*example.T, color="black", linewidth=1)
    else:
        axes.plot(example.reshape(len(example), -1), color="black", linewidth=1)
    axes.set_title(title, fontsize=8, color=colour, pad=2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=colour, linewidth=2)


def _draw_regression(episode: Episode, outputs: np.ndarray) -> "Figure":
    support, query = jax.tree.map(_columns, episode)
    outputs = outputs.reshape(*outputs.shape[:2], -1)
    last = len(outputs) - 1
    styles = {0: (QUIET, ":"), 1: (BAD, "--"), last: (GOOD, "-")}
    figure = _figure(7, 4)
    axes = figure.subplots()
    if query.x.shape[1] == query.y.shape[1] == 1:
        order = query.x[:, 0].argsort()
        x = query.x[order, 0]
        axes.plot(x, query.y[order, 0], color="black", label="the task")
        axes.plot(support.x[:, 0], support.y[:, 0], "o", color="black", label="support")
        for step in sorted(styles.keys() & set(range(len(outputs)))):
            colour, style = styles[step]
            axes.plot(x, outputs[step, order, 0], style, color=colour, label=_steps(step))
        axes.set(xlabel="x", ylabel="y")
    else:
        for step in sorted({0, last}):
            predicted, (colour, _) = outputs[step].ravel(), styles[step]
            axes.plot(query.y.ravel(), predicted, ".", color=colour, label=_steps(step))
        ends = [query.y.min(), query.y.max()]
        axes.plot(ends, ends, color="black", linewidth=1, label="exact")
        axes.set(xlabel="target", ylabel="prediction")
    axes.set_title("One task, before and after adaptation")
    _tidy(axes)
    return figure


def _columns(array: jax.Array) -> np.ndarray:
    """`[examples, values]`."""
    return np.asarray(array).reshape(len(array), -1)


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def _figure(width: float, height: float) -> "Figure":
    """A figure that pyplot knows nothing of, so that it needs no closing."""
    return require("matplotlib.figure", "cli").Figure(figsize=(width, height))


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
