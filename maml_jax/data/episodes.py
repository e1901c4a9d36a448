"""Few-shot episodes of labelled examples, drawn on the device inside `jit`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from maml_jax.types import Batch, Episode


class EpisodeShape(NamedTuple):
    """How many classes and examples an episode has, and how they are labelled."""

    ways: int
    """Classes in the task."""
    shots: int
    """Support examples per class."""
    queries: int
    """Query examples per class."""
    rotate: bool = False
    """Rotate each class by its own random multiple of 90° (Santoro et al. 2016; Finn et al.)."""
    by_class: bool = False
    """Labels are the classes' own numbers; with `rotate`, four times the number plus the quarter
    turns. If false, they are 0 to `ways` - 1, in the episode's order of its classes."""


class Draw(NamedTuple):
    """Which examples an episode has, before they are read."""

    examples: jax.Array
    """`[ways, shots + queries]`, indices of examples, int32."""
    labels: jax.Array
    """`[ways]`, int32."""
    quarter_turns: jax.Array
    """`[ways]`, 0 to 3, counter-clockwise."""


def draw_episode(
    firsts: jax.Array, counts: jax.Array, key: jax.Array, shape: EpisodeShape, largest: int
) -> Draw:
    """One task: `ways` different classes in random order, different examples of each.

    Args:
      firsts: `[classes]`, the index of the first example of each class.
      counts: `[classes]`, how many examples each class has.
      key: a JAX random key.
      shape: of the episode.
      largest: the largest of `counts`.
    """
    class_key, example_key, turn_key = jax.random.split(key, 3)
    classes = _distinct(class_key, shape.ways, jnp.full((), len(counts)), len(counts))
    per_class = shape.shots + shape.queries
    chosen = jax.vmap(lambda key, count: _distinct(key, per_class, count, largest))(
        jax.random.split(example_key, shape.ways), counts[classes]
    )
    labels = classes if shape.by_class else jnp.arange(shape.ways, dtype=jnp.int32)
    quarter_turns = jnp.zeros(shape.ways, jnp.int32)
    if shape.rotate:
        quarter_turns = jax.random.randint(turn_key, (shape.ways,), 0, 4)
        labels = 4 * labels + quarter_turns if shape.by_class else labels
    return Draw(firsts[classes][:, None] + chosen, labels, quarter_turns)


def build_episode(examples: jax.Array, draw: Draw, shape: EpisodeShape) -> Episode:
    """The episode of a draw.

    Args:
      examples: those drawn, `[ways, shots + queries, …]`.
      draw: the draw.
      shape: that it was drawn with.

    Returns:
      An `Episode` with int32 labels, classes one after another. Examples in uint8 become float32
      in [0, 1], others stay as they are.
    """
    if shape.rotate:
        examples = jax.vmap(_rotate)(examples, draw.quarter_turns)
    x = examples.astype(jnp.float32) / 255 if examples.dtype == jnp.uint8 else examples
    return split_episode(x, draw.labels, shape.shots)


def split_episode(x: jax.Array, labels: jax.Array, shots: int) -> Episode:
    """The first `shots` examples of each class to adapt on, the rest as queries.

    Args:
      x: `[ways, shots + queries, …]`.
      labels: `[ways]`.
      shots: support examples per class.
    """

    def batch(x: jax.Array) -> Batch:
        return Batch(x.reshape(-1, *x.shape[2:]), jnp.repeat(labels, x.shape[1]))

    return Episode(batch(x[:, :shots]), batch(x[:, shots:]))


def _distinct(key: jax.Array, n: int, count: jax.Array, largest: int) -> jax.Array:
    """`n` different integers below `count` (itself at most `largest`), in random order."""
    scores = jnp.where(jnp.arange(largest) < count, jax.random.uniform(key, (largest,)), -1.0)
    return lax.top_k(scores, n)[1]


def _rotate(images: jax.Array, quarter_turns: jax.Array) -> jax.Array:
    """`[images, height, width, channels]`, rotated counter-clockwise by so many times 90°."""
    rotations = [lambda x, k=k: jnp.rot90(x, k, axes=(1, 2)) for k in range(4)]
    return lax.switch(quarter_turns, rotations, images)
