"""A picture of a data set: examples of some classes, and some episodes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from maml_jax.data import describe
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.sources import DataSet
from maml_jax.extras import require
from maml_jax.types import Episode

CLASSES, EACH, EPISODES = 12, 10, 3
_SUPPORT, _QUERY = "#1a7f4b", "#9a9a9a"


def draw(data: DataSet, path: Path, *, ways: int, shots: int, queries: int, seed: int) -> None:
    """Draw `figure` into a file.

    Args:
      data: the data set.
      path: the file, .png or another format that matplotlib writes.
      ways: classes of an episode.
      shots: its support examples per class.
      queries: its query examples per class.
      seed: decides which classes and episodes are drawn.
    """
    drawn = figure(data, ways=ways, shots=shots, queries=queries, seed=seed)
    drawn.savefig(path, dpi=100, bbox_inches="tight")


def figure(
    data: DataSet, *, ways: int = 5, shots: int = 1, queries: int = 15, seed: int = 0
) -> Any:
    """Three episodes, and of images also ten examples of a dozen classes each.

    Images are drawn side by side, sequences and vectors as curves, a regression task as points.

    Returns:
      A `matplotlib.figure.Figure`.
    """
    source = data.tasks("all", ways=ways, shots=shots, queries=queries)
    batch = jax.tree.map(np.asarray, source.batch(jax.random.key(seed), EPISODES))
    episodes = [jax.tree.map(lambda leaf, n=n: leaf[n], batch) for n in range(EPISODES)]
    if data.kind == "images":
        return _images(data, episodes, seed)
    if data.kind == "regression":
        return _points(data, episodes)
    return _curves(data, episodes)


def _new_figure(width: float, height: float) -> Any:
    return require("matplotlib.figure", "cli").Figure(figsize=(width, height))


def _images(data: DataSet, episodes: list[Episode], seed: int) -> Any:
    """A row of images for each class shown, then for each class of the episodes."""
    strips: list[tuple[str, Any, int]] = []  # title, images, how many of them are support images
    if isinstance(data, LabelledSet):
        rng = np.random.default_rng(seed)
        count = min(CLASSES, len(data.counts))
        firsts = np.cumsum(data.counts) - data.counts
        for number in np.sort(rng.choice(len(data.counts), count, replace=False)):
            some = data.examples[firsts[number] :][: min(EACH, data.counts[number])]
            strips.append((data.class_names[number], some, 0))
    for n, (support, query) in enumerate(episodes):
        strips.append(("", support.x[:0], 0))
        for label in np.unique(support.y):
            title = f"class {label}" if label else f"episode {n}\nclass {label}"
            of_class = [part.x[part.y == label] for part in (support, query)]
            strips.append((title, np.concatenate(of_class), len(of_class[0])))
    longest = max(len(images) for _, images, _ in strips)
    drawn = _new_figure(8, 0.62 * len(strips))
    grid = drawn.add_gridspec(len(strips), 1, hspace=0.1)
    for row, (title, images, shots) in enumerate(strips):
        if len(images):
            axes = drawn.add_subplot(grid[row])
            _strip(axes, images, title, longest if shots else EACH)
            if shots:
                axes.axvline(shots * data.input_shape[1] - 0.5, color=_SUPPORT, linewidth=2)
    title = f"{_title(data)}; left of the line: support"
    drawn.suptitle(title, fontsize=9, y=0.91)
    return drawn


def _strip(axes: Any, images: np.ndarray, title: str, places: int) -> None:
    """Images side by side, on a strip that has room for `places`."""
    if images.dtype == np.uint8:
        images = images / 255
    if images.shape[-1] not in (1, 3):  # of other channels, their mean
        images = images.mean(-1, keepdims=True)
    height, width, channels = images.shape[1:]
    low, high = min(0.0, images.min()), max(1.0, images.max())
    strip = np.ones((height, width * places, channels))
    strip[:, : width * len(images)] = np.concatenate(list((images - low) / (high - low)), 1)
    axes.imshow(strip.squeeze(-1) if channels == 1 else strip, cmap="gray", vmin=0, vmax=1)
    axes.set_ylabel(title[-28:], rotation=0, ha="right", va="center", fontsize=7)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _curves(data: DataSet, episodes: list[Episode]) -> Any:
    """A row for each episode, a column for each class; every value over time, or over features."""
    columns = len(np.unique(episodes[0].support.y))
    drawn = _new_figure(1.8 * columns, 1.6 * len(episodes) + 0.4)
    grid = drawn.subplots(len(episodes), columns, sharex=True, sharey=True, squeeze=False)
    for n, episode in enumerate(episodes):
        for column, label in enumerate(np.unique(episode.support.y)):
            axes = grid[n, column]
            for part, color, width in (
                (episode.query, _QUERY, 0.6),
                (episode.support, _SUPPORT, 1.4),
            ):
                for example in part.x[part.y == label]:
                    axes.plot(example, color=color, linewidth=width)
            axes.set_title(f"episode {n}, class {label}", fontsize=7)
            axes.tick_params(labelsize=6)
    drawn.suptitle(f"{_title(data)}; green: support, grey: queries", fontsize=9)
    drawn.tight_layout()
    return drawn


def _points(data: DataSet, episodes: list[Episode]) -> Any:
    """A plot for each episode: the first target over the first input."""
    drawn = _new_figure(2.6 * len(episodes), 2.6)
    grid = drawn.subplots(1, len(episodes), sharex=True, sharey=True, squeeze=False)[0]
    for n, (axes, episode) in enumerate(zip(grid, episodes, strict=True)):
        for part, color, size in ((episode.query, _QUERY, 8), (episode.support, _SUPPORT, 20)):
            x, y = (np.reshape(leaf, (len(leaf), -1))[:, 0] for leaf in (part.x, part.y))
            axes.scatter(x, y, s=size, color=color)
        axes.set_title(f"episode {n}", fontsize=7)
        axes.tick_params(labelsize=6)
    drawn.suptitle(f"{_title(data)}; green: support, grey: queries", fontsize=9)
    drawn.tight_layout()
    return drawn


def _title(data: DataSet) -> str:
    sizes = data.sizes().get("all")
    if sizes is None:
        return f"{data.name}, each input {describe.shape(data)}"
    count = "" if sizes.examples is None else f", {sizes.examples} {describe.noun(data, 2)}"
    return f"{data.name}: {sizes.classes} classes{count} of {describe.shape(data)}"
