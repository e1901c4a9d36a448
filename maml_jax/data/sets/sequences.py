"""Few-shot sequences: closed curves in the plane, told apart by a tracing or a few of each."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.data import describe
from maml_jax.data.episodes import split_episode
from maml_jax.data.request import OF_IMAGES, Request
from maml_jax.data.sources import Size, TaskSource
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Episode, Loss

TIMES = 24
HARMONICS = 3
NOISE = 0.1
CLASSES = {"train": (0, 1024), "val": (1024, 256), "test": (1280, 512), "all": (0, 1792)}
"""The number of the first class of each split, and how many there are."""


def load(request: Request) -> "Sequences":
    """The set is computed: it needs no files, and has one split."""
    because = "whose examples are no images and whose split is fixed"
    request.refuse(*OF_IMAGES, because=because)
    return Sequences()


class Sequences:
    r"""Each class is a closed curve, $\sum_{h=1}^{3} a_h \sin(h t + \phi_h)$ in two coordinates.

    An example, `[24, 2]`, traces its curve for one and a half periods in 24 time steps, from a
    random point, up to a fifth faster or slower, with noise of standard deviation 0.1. No two
    examples of a class agree time step by time step. Amplitudes $a_h$ are normal with standard
    deviation 1/h, phases $\phi_h$ uniform.
    """

    name = "sequences"
    kind = "sequences"
    loss: Loss = staticmethod(softmax_cross_entropy)
    input_shape = (TIMES, 2)

    def outputs(self, ways: int) -> int:
        return ways

    def labels(self, split: str) -> int:
        return CLASSES[check_choice("split", split, CLASSES)][1]

    def sizes(self) -> dict[str, Size]:
        return {split: Size(count) for split, (_, count) in CLASSES.items()}

    def tasks(
        self,
        split: str,
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        by_class: bool = False,
    ) -> TaskSource:
        """The tasks of one split, or of `all` classes; see `DataSet.tasks`."""
        first, count = CLASSES[check_choice("split", split, CLASSES)]
        check_count("shots", shots)
        check_count("queries", queries)
        check_count("ways", ways, least=2)
        if ways > count:
            raise InputError(f"`ways` was {ways}; the {split} split has {count} classes.")
        described = (
            f"sequences, {split} split of {count} classes: {ways}-way {shots}-shot, "
            f"{queries} queries a class, each input {describe.shape(self)}"
        )
        sample = _sampler(first, count, ways, shots, queries, by_class)
        return TaskSource(None, sample, description=described)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "classes": {split: CLASSES[split][1] for split in ("train", "val", "test")},
            "times": TIMES,
            "harmonics": HARMONICS,
            "noise": NOISE,
        }

    def __repr__(self) -> str:
        return describe.one_line(self)

    def _repr_html_(self) -> str:
        return describe.as_html(self)


@cache
def _sampler(first: int, count: int, ways: int, shots: int, queries: int, by_class: bool) -> Any:
    def sample(_: Any, key: jax.Array) -> Episode:
        class_key, trace_key = jax.random.split(key)
        classes = jax.random.choice(class_key, count, (ways,), replace=False)
        keys = jax.random.split(trace_key, (ways, shots + queries))
        x = jax.vmap(jax.vmap(trace, (None, 0)))(first + classes, keys)
        labels = classes.astype(jnp.int32) if by_class else jnp.arange(ways, dtype=jnp.int32)
        return split_episode(x, labels, shots)

    return sample


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
