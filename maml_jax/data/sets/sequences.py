"""Periodic curves in the plane, to be told apart from one tracing each: few-shot sequences."""

from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.data.tasks import TaskSource
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Batch, Episode, Loss

TIMES = 24
HARMONICS = 3
NOISE = 0.1
CLASSES = {"train": (0, 1024), "val": (1024, 256), "test": (1280, 512)}
"""The number of the first class of each split, and how many there are."""


class Sequences:
    r"""Each class is a closed curve, $\sum_{h=1}^{3} a_h \sin(h t + \phi_h)$ in two coordinates.

    An example traces one and a half rounds in 24 steps, from a random point, up to a fifth faster
    or slower, with noise of deviation 0.1: what the curve is shows only over time, and no two
    tracings agree step by step. Amplitudes are normal with deviation 1/h, phases uniform.
    """

    loss: Loss = staticmethod(softmax_cross_entropy)
    input_shape = (TIMES, 2)

    def outputs(self, ways: int) -> int:
        return ways

    def labels(self, split: str) -> int:
        return CLASSES[split][1]

    def tasks(
        self, split: str, *, ways: int, shots: int, queries: int, by_class: bool = False
    ) -> TaskSource:
        """The tasks of one split."""
        first, count = CLASSES[check_choice("split", split, CLASSES)]
        check_count("shots", shots)
        check_count("queries", queries)
        check_count("ways", ways, least=2)
        if ways > count:
            raise InputError(f"`ways` was {ways}; the {split} split has {count} classes.")

        def sample(_: Any, key: jax.Array) -> Episode:
            class_key, trace_key = jax.random.split(key)
            classes = jax.random.choice(class_key, count, (ways,), replace=False)
            keys = jax.random.split(trace_key, (ways, shots + queries))
            x = jax.vmap(lambda number, keys: jax.vmap(lambda k: trace(number, k))(keys))(
                first + classes, keys
            )
            labels = classes.astype(jnp.int32) if by_class else jnp.arange(ways, dtype=jnp.int32)

            def batch(x: jax.Array) -> Batch:
                return Batch(x.reshape(-1, *x.shape[2:]), jnp.repeat(labels, x.shape[1]))

            return Episode(batch(x[:, :shots]), batch(x[:, shots:]))

        return TaskSource(None, sample)

    def facts(self) -> dict[str, Any]:
        return {
            "classes": {split: count for split, (_, count) in CLASSES.items()},
            "times": TIMES,
            "harmonics": HARMONICS,
            "noise": NOISE,
        }


def trace(number: jax.Array, key: jax.Array) -> jax.Array:
    """One example of the class of that number, `[TIMES, 2]`."""
    amplitude_key, phase_key = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
    order = jnp.arange(1, HARMONICS + 1)[:, None]
    amplitude = jax.random.normal(amplitude_key, (HARMONICS, 2)) / order
    phase = jax.random.uniform(phase_key, (HARMONICS, 2), maxval=2 * jnp.pi)
    start_key, speed_key, noise_key = jax.random.split(key, 3)
    start = jax.random.uniform(start_key, maxval=2 * jnp.pi)
    speed = jax.random.uniform(speed_key, minval=0.8, maxval=1.2) * 1.5 * 2 * jnp.pi / TIMES
    angle = start + speed * jnp.arange(TIMES)
    curve = (amplitude * jnp.sin(order * angle[:, None, None] + phase)).sum(1)
    return curve + NOISE * jax.random.normal(noise_key, curve.shape)
