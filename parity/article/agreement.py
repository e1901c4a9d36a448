"""How far the weights of both sides are apart, after a number of steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maml_jax.types import Params
from parity.article.digits import Digits, batch_order
from parity.article.jax_side import jax_side
from parity.article.settings import BATCH, FLATTENED
from parity.article.torch_side import initial_weights, torch_side
from parity.errors import BOUND, relative_error
from parity.weights import flatten, to_flax


@dataclass(frozen=True)
class Agreement:
    """How far the JAX side is from the PyTorch side, as relative errors of float64 arrays."""

    steps: int
    weights: float
    """Of the weights; `parity.errors` defines the error."""
    movement: float
    """Of the weights less the initial ones, by the same definition. The rate is so small that the
    weights alone would agree to some digits if one side had stood still."""
    largest_at: str
    """The array whose movement differs most."""

    @property
    def passed(self) -> bool:
        """Whether both are within `BOUND`; NaN is not."""
        return self.weights <= BOUND and self.movement <= BOUND


def compare_sides(digits: Digits, steps: Sequence[int], seed: int) -> Iterator[Agreement]:
    """Runs both sides in float64 and yields their agreement after each number of `steps`."""
    weights = initial_weights(seed, torch.float64)
    initial = to_flax(weights, FLATTENED)
    epochs = -(-max(steps) * BATCH // len(digits.x))
    order = batch_order(len(digits.x), epochs, seed)
    theirs = torch_side(weights, digits, order, steps)
    ours = jax_side(initial, digits, order, steps)
    for count, a, b in zip(steps, ours, theirs, strict=True):
        yield agreement(initial, a, b, count)


def agreement(initial: Params, ours: Params, theirs: Params, steps: int) -> Agreement:
    """How far `ours` is from `theirs` after so many steps from `initial`, all in Flax's layout."""
    start, a, b = flatten(initial), flatten(ours), flatten(theirs)
    _, weights = relative_error(a, b)
    largest_at, movement = relative_error(_minus(a, start), _minus(b, start))
    return Agreement(steps, weights, movement, largest_at)


def _minus(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array - b[path] for path, array in a.items()}
