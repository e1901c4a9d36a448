"""Sine curves of random amplitude and phase: the regression tasks of Finn et al. 2017, §5.1."""

from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.data.tasks import TaskSource
from maml_jax.errors import check_choice, check_count
from maml_jax.losses import mean_squared_error
from maml_jax.types import Batch, Episode, Loss


class Sinusoid:
    r"""$y = A\sin(x - \phi)$, $A\in[0.1, 5]$, $\phi\in[0,\pi]$, $x\in[-5, 5]$, all uniform."""

    loss: Loss = staticmethod(mean_squared_error)
    input_shape = (1,)

    def outputs(self, ways: int) -> int:
        del ways
        return 1

    def tasks(
        self, split: str, *, ways: int, shots: int, queries: int, by_class: bool = False
    ) -> TaskSource:
        """The tasks, `shots` support points and `queries` query points each; all splits alike."""
        del ways, by_class
        check_choice("split", split, ("train", "val", "test"))
        check_count("shots", shots)
        check_count("queries", queries)
        return TaskSource(None, lambda _, key: sample_sinusoid(key, shots, queries))

    def labels(self, split: str) -> None:
        del split

    def facts(self) -> dict[str, Any]:
        return {"amplitude": [0.1, 5.0], "phase": [0.0, 3.141592653589793], "x": [-5.0, 5.0]}


def sample_sinusoid(key: jax.Array, shots: int, queries: int) -> Episode:
    """One task: `x` and `y` of `[points, 1]`."""
    amplitude_key, phase_key, x_key = jax.random.split(key, 3)
    amplitude = jax.random.uniform(amplitude_key, minval=0.1, maxval=5.0)
    phase = jax.random.uniform(phase_key, maxval=jnp.pi)
    x = jax.random.uniform(x_key, (shots + queries, 1), minval=-5.0, maxval=5.0)
    y = amplitude * jnp.sin(x - phase)
    return Episode(Batch(x[:shots], y[:shots]), Batch(x[shots:], y[shots:]))
