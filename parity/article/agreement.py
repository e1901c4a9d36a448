"""The errors between the weights of both programs after a number of steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maml_jax.exchange import flatten
from maml_jax.types import Params
from parity.article.digits import Digits, batch_order
from parity.article.jax_program import run_jax
from parity.article.settings import BATCH, FLATTENED
from parity.article.torch_program import initial_weights, run_torch
from parity.conversion import to_flax
from parity.relative_error import BOUND, relative_error


@dataclass(frozen=True)
class Agreement:
    """The relative errors of the JAX program against the PyTorch program, in float64."""

    steps: int
    weights: float
    """The error of the weights, as `parity.relative_error` defines it."""
    movement: float
    """The error of the weights minus the initial ones. The rate is so small that the weights alone
    would agree to several digits if one program had not moved at all."""
    largest_at: str
    """The array whose movement differs most."""

    @property
    def passed(self) -> bool:
        """Whether both errors are within `BOUND`; NaN is not."""
        return self.weights <= BOUND and self.movement <= BOUND


def compare_programs(digits: Digits, steps: Sequence[int], seed: int) -> Iterator[Agreement]:
    """Runs both programs in float64 and yields their agreement after each number of `steps`."""
    weights = initial_weights(seed, torch.float64)
    initial = to_flax(weights, FLATTENED)
    epochs = -(-max(steps) * BATCH // len(digits.x))
    order = batch_order(len(digits.x), epochs, seed)
    theirs = run_torch(weights, digits, order, steps)
    ours = run_jax(initial, digits, order, steps)
    for count, a, b in zip(steps, ours, theirs, strict=True):
        yield agreement(initial, a, b, count)


def agreement(initial: Params, ours: Params, theirs: Params, steps: int) -> Agreement:
    """The errors of `ours` against `theirs` after `steps` from `initial`, all in Flax's layout."""
    start, a, b = flatten(initial), flatten(ours), flatten(theirs)
    _, weights = relative_error(a, b)
    largest_at, movement = relative_error(_minus(a, start), _minus(b, start))
    return Agreement(steps, weights, movement, largest_at)


def _minus(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array - b[path] for path, array in a.items()}
