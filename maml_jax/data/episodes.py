"""Few-shot episodes of images, drawn on the device inside `jit`."""

import jax
import jax.numpy as jnp
from jax import lax

from maml_jax.types import Batch, Episode


def sample_episode(
    images: jax.Array,
    counts: jax.Array,
    key: jax.Array,
    *,
    ways: int,
    shots: int,
    queries: int,
    rotate: bool,
    by_class: bool = False,
) -> Episode:
    """One task: `ways` different classes in random order, different images of each, no image twice.

    Labels are the places in that order, so a class has another label in another episode.

    Args:
      images: `[classes, images, height, width, channels]`, uint8.
      counts: `[classes]`, how many of the images of each class exist.
      key: a JAX random key.
      ways: classes in the task.
      shots: support images per class.
      queries: query images per class.
      rotate: turn each class by its own random multiple of 90° (Santoro et al. 2016; Finn et al.).
      by_class: labels are the classes' own numbers instead; with `rotate`, four times that plus the
        quarters of a turn.

    Returns:
      An `Episode` with float32 images in [0, 1] and int32 labels, classes one after another.
    """
    class_key, image_key, turn_key = jax.random.split(key, 3)
    classes = _distinct(class_key, ways, jnp.full((), images.shape[0]), images.shape[0])
    chosen = jax.vmap(lambda key, count: _distinct(key, shots + queries, count, images.shape[1]))(
        jax.random.split(image_key, ways), counts[classes]
    )
    x = images[classes[:, None], chosen]
    labels = classes if by_class else jnp.arange(ways, dtype=jnp.int32)
    if rotate:
        quarters = jax.random.randint(turn_key, (ways,), 0, 4)
        x = jax.vmap(_turn)(x, quarters)
        labels = 4 * labels + quarters if by_class else labels
    x = x.astype(jnp.float32) / 255

    def batch(x: jax.Array) -> Batch:
        return Batch(x.reshape(-1, *x.shape[2:]), jnp.repeat(labels, x.shape[1]))

    return Episode(batch(x[:, :shots]), batch(x[:, shots:]))


def _distinct(key: jax.Array, n: int, count: jax.Array, most: int) -> jax.Array:
    """`n` different integers below `count` (itself at most `most`), in random order."""
    scores = jnp.where(jnp.arange(most) < count, jax.random.uniform(key, (most,)), -1.0)
    return lax.top_k(scores, n)[1]


def _turn(images: jax.Array, quarters: jax.Array) -> jax.Array:
    """`[images, height, width, channels]` turned by `quarters` × 90° counter-clockwise."""
    turns = [lambda x, k=k: jnp.rot90(x, k, axes=(1, 2)) for k in range(4)]
    return lax.switch(quarters, turns, images)
