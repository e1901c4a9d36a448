"""Few-shot episodes of images, drawn on the device inside `jit`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from maml_jax.types import Batch, Episode


class Shape(NamedTuple):
    """What an episode of images is made of."""

    ways: int
    """Classes in the task."""
    shots: int
    """Support images per class."""
    queries: int
    """Query images per class."""
    rotate: bool = False
    """Turn each class by its own random multiple of 90° (Santoro et al. 2016; Finn et al.)."""
    by_class: bool = False
    """Labels are the classes' own numbers; with `rotate`, four times that plus the quarters of a
    turn. If not, they are the places in the episode's order of its classes."""


class Draw(NamedTuple):
    """Which images an episode has, before anyone looks at them."""

    images: jax.Array
    """`[ways, shots + queries]`, numbers of images, int32."""
    labels: jax.Array
    """`[ways]`, int32."""
    quarters: jax.Array
    """`[ways]`, quarters of a turn counter-clockwise."""


def draw_episode(
    firsts: jax.Array, counts: jax.Array, key: jax.Array, shape: Shape, most: int
) -> Draw:
    """One task: `ways` different classes in random order, different images of each, no image twice.

    Args:
      firsts: `[classes]`, the number of the first image of each class.
      counts: `[classes]`, how many images each class has.
      key: a JAX random key.
      shape: of the episode.
      most: the largest of `counts`.
    """
    class_key, image_key, turn_key = jax.random.split(key, 3)
    classes = _distinct(class_key, shape.ways, jnp.full((), len(counts)), len(counts))
    each = shape.shots + shape.queries
    chosen = jax.vmap(lambda key, count: _distinct(key, each, count, most))(
        jax.random.split(image_key, shape.ways), counts[classes]
    )
    labels = classes if shape.by_class else jnp.arange(shape.ways, dtype=jnp.int32)
    quarters = jnp.zeros(shape.ways, jnp.int32)
    if shape.rotate:
        quarters = jax.random.randint(turn_key, (shape.ways,), 0, 4)
        labels = 4 * labels + quarters if shape.by_class else labels
    return Draw(firsts[classes][:, None] + chosen, labels, quarters)


def dress_episode(images: jax.Array, draw: Draw, shape: Shape) -> Episode:
    """The episode of a draw.

    Args:
      images: those drawn, `[ways, shots + queries, height, width, channels]`, uint8.
      draw: the draw.
      shape: that it was drawn with.

    Returns:
      An `Episode` with float32 images in [0, 1] and int32 labels, classes one after another.
    """
    if shape.rotate:
        images = jax.vmap(_turn)(images, draw.quarters)
    x = images.astype(jnp.float32) / 255

    def batch(x: jax.Array) -> Batch:
        return Batch(x.reshape(-1, *x.shape[2:]), jnp.repeat(draw.labels, x.shape[1]))

    return Episode(batch(x[:, : shape.shots]), batch(x[:, shape.shots :]))


def _distinct(key: jax.Array, n: int, count: jax.Array, most: int) -> jax.Array:
    """`n` different integers below `count` (itself at most `most`), in random order."""
    scores = jnp.where(jnp.arange(most) < count, jax.random.uniform(key, (most,)), -1.0)
    return lax.top_k(scores, n)[1]


def _turn(images: jax.Array, quarters: jax.Array) -> jax.Array:
    """`[images, height, width, channels]` turned by `quarters` × 90° counter-clockwise."""
    turns = [lambda x, k=k: jnp.rot90(x, k, axes=(1, 2)) for k in range(4)]
    return lax.switch(quarters, turns, images)
