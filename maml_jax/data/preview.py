"""A sheet of pictures from a data set: some of its classes, and some episodes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from maml_jax.data import ImageSet
from maml_jax.extras import require

CLASSES, EACH, EPISODES = 12, 10, 3


def draw(data: ImageSet, path: Path, *, ways: int, shots: int, queries: int, seed: int) -> None:
    """Draw a dozen classes with ten images each, and three episodes, into a file.

    Args:
      data: the set.
      path: the file, .png or another that matplotlib writes.
      ways: classes of an episode.
      shots: its support images per class.
      queries: its query images per class.
      seed: which classes and episodes.
    """
    source = data.tasks("all", ways=ways, shots=shots, queries=queries)
    keys = jax.random.split(jax.random.key(seed), EPISODES)
    sample = jax.jit(jax.vmap(source.sample, (None, 0)))
    episodes = sample(source.store, source.items(keys))
    rng = np.random.default_rng(seed)
    shown = np.sort(rng.choice(len(data.counts), min(CLASSES, len(data.counts)), replace=False))
    rows = len(shown) + 1 + EPISODES * (ways + 1)
    figure = require("matplotlib.figure", "cli").Figure(figsize=(8, 0.62 * rows))
    grid = figure.add_gridspec(rows, 1, hspace=0.1)
    firsts = np.cumsum(data.counts) - data.counts
    for row, number in enumerate(shown):
        some = data.images[firsts[number] :][: min(EACH, data.counts[number])]
        _strip(figure.add_subplot(grid[row]), some, data.class_names[number], EACH)
    row = len(shown)
    for n in range(EPISODES):
        row += 1
        for way in range(ways):
            parts = [
                np.asarray(part.x[n])[np.asarray(part.y[n]) == way]
                for part in (episodes.support, episodes.query)
            ]
            axes = figure.add_subplot(grid[row])
            title = f"episode {n}\nclass {way}" if not way else f"class {way}"
            _strip(axes, np.concatenate(parts), title, shots + queries)
            axes.axvline(shots * data.input_shape[1] - 0.5, color="#1a7f4b", linewidth=2)
            row += 1
    title = f"{data.name}: {len(data.counts)} classes, {int(data.counts.sum())} images of "
    title += "×".join(map(str, data.input_shape))
    figure.suptitle(title + "; left of the line: support", fontsize=9, y=0.91)
    figure.savefig(path, dpi=100, bbox_inches="tight")


def _strip(axes: Any, images: np.ndarray, title: str, places: int) -> None:
    """Images side by side, on a strip that has room for `places`."""
    height, width, channels = images.shape[1:]
    top = 255 if images.dtype == np.uint8 else 1.0
    strip = np.full((height, width * places, channels), top, images.dtype)
    strip[:, : width * len(images)] = np.concatenate(list(images), 1)
    axes.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=top)
    axes.set_ylabel(title[-28:], rotation=0, ha="right", va="center", fontsize=7)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
