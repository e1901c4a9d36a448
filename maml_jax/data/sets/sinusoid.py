"""Sine curves of random amplitude and phase: the regression tasks of Finn et al. 2017, §5.1."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.data import describe
from maml_jax.data.request import OF_IMAGES, Request
from maml_jax.data.sources import Size, TaskSource
from maml_jax.errors import check_choice, check_count
from maml_jax.losses import mean_squared_error
from maml_jax.types import Batch, Episode, Loss

SPLITS = ("train", "val", "test", "all")


def load(request: Request) -> "Sinusoid":
    """The set is computed: it needs no files."""
    because = "whose examples are no images and have no classes"
    request.refuse(*OF_IMAGES, because=because)
    return Sinusoid()


class Sinusoid:
    r"""$y = A\sin(x - \phi)$, $A\in[0.1, 5]$, $\phi\in[0,\pi]$, $x\in[-5, 5]$, all uniform."""

    name = "sinusoid"
    kind = "regression"
    loss: Loss = staticmethod(mean_squared_error)
    input_shape = (1,)

    def outputs(self, ways: int) -> int:
        del ways
        return 1

    def tasks(
        self,
        split: str,
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        by_class: bool = False,
    ) -> TaskSource:
        """Tasks of `shots` support points and `queries` query points; all splits are alike.

        There are no classes, so `ways` and `by_class` change nothing.
        """
        del ways, by_class
        check_choice("split", split, SPLITS)
        check_count("shots", shots)
        check_count("queries", queries)
        described = f"sinusoid: {shots} support points, {queries} query points"
        return TaskSource(None, _sampler(shots, queries), description=described)

    def labels(self, split: str) -> None:
        check_choice("split", split, SPLITS)

    def sizes(self) -> dict[str, Size]:
        return {}

    def fingerprint(self) -> dict[str, Any]:
        return {"amplitude": [0.1, 5.0], "phase": [0.0, 3.141592653589793], "x": [-5.0, 5.0]}

    def __repr__(self) -> str:
        return describe.one_line(self)

    def _repr_html_(self) -> str:
        return describe.as_html(self)


@cache
def _sampler(shots: int, queries: int) -> Any:
    return lambda _, key: sample_sinusoid(key, shots, queries)


def sample_sinusoid(key: jax.Array, shots: int, queries: int) -> Episode:
    """One task: `x` and `y` of `[points, 1]`."""
    amplitude_key, phase_key, x_key = jax.random.split(key, 3)
    amplitude = jax.random.uniform(amplitude_key, minval=0.1, maxval=5.0)
    phase = jax.random.uniform(phase_key, maxval=jnp.pi)
    x = jax.random.uniform(x_key, (shots + queries, 1), minval=-5.0, maxval=5.0)
    y = amplitude * jnp.sin(x - phase)
    return Episode(Batch(x[:shots], y[:shots]), Batch(x[shots:], y[shots:]))
