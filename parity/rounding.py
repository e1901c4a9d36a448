r"""What float32 costs a meta-gradient: on each side, and between the two.

Both sides start from the same float32 numbers (`parity.cells.build`). With $G$ the meta-gradient in
float64, and $J$ and $P$ those of JAX and of PyTorch in float32, the errors are those of $J$ against
$G$, of $P$ against $G$, and of $J$ against $P$, each array's relative to its size in $G$, or to a
hundredth of that of $G$, if that is more. An array that is zero in exact arithmetic, such as the
gradient of a bias ahead of batch norm, has nothing but rounding on either side, and is measured by
the whole of $G$. The largest error of the arrays counts.

The third is never above the sum of the first two, whatever a side does wrong, so a bound by that
sum would always hold. It is held to the smaller of them: the side that rounds less shows what
float32 can do on this problem, and a side that needs much more has lost precision somewhere,

$$\mathrm{apart} \le \max\bigl(10\,\max(\min(\mathrm{jax}, \mathrm{torch}),\; u),\; 2j\bigr).$$

Ten, because both sides do the same operations and only their order differs: the size of their
rounding is the same within an order of magnitude. $u = 2^{-24}$ is the rounding of one number,
below which no error says anything.

$j$ is how far the float64 meta-gradient itself moves as every weight moves at random by up to four
$u$ of itself, the farthest of eight times; it is computed only where the rest does not suffice. A
rectifier or a maximum has a kink, where the derivative jumps. If a weight is within rounding of
one, either side may be on its wrong side, and be far off with nothing lost. Otherwise $j$ is a few
$u$ times the condition of the problem, and excuses nothing.

With Adam inside, both have errors of 1e-5 and more. It divides by $1-0.999^t$, and in float32 that
subtraction multiplies the rounding of 0.999 by $1/(1-0.999)$. The reference computes all in the
precision of the weights, as optax does; `torch.optim.Adam` has this number in double precision.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

import maml_jax as mj
from maml_jax.types import Meta
from parity.cells import Cell
from parity.errors import BOUND, FLOOR, Arrays, norm
from parity.reference import Reference
from parity.sides import jax_gradient, torch_side

FACTOR = 10.0
UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""
UNITS = 4
DRAWS = 8


@dataclass(frozen=True)
class Rounding:
    """The errors of one cell's meta-gradient in float32, relative and without unit."""

    jax: float
    """Of JAX against float64."""
    torch: float
    """Of PyTorch against float64."""
    apart: float
    """Of JAX against PyTorch."""
    jump: float = 0.0
    """How far float64 moves with its weights' rounding; 0 where that was not asked."""

    @property
    def bound(self) -> float:
        """The largest distance of the sides that rounding explains."""
        return max(FACTOR * max(min(self.jax, self.torch), UNIT), 2 * self.jump)

    @property
    def passed(self) -> bool:
        """Whether it is not exceeded; NaN is not within any bound."""
        return bool(np.isfinite([self.jax, self.torch]).all()) and self.apart <= self.bound


def rounding(
    cell: Cell,
    learner: mj.MetaLearner,
    reference: Reference,
    meta: Meta,
    episodes: mj.Episode,
    exact: Arrays,
    *,
    as_trained: bool = False,
) -> Rounding:
    """Run both sides in float32.

    Args:
      cell: what to compare.
      learner: the JAX side.
      reference: the PyTorch side.
      meta: where both start from, float64 arrays of float32 numbers.
      episodes: the tasks, likewise.
      exact: the meta-gradient in float64.
      as_trained: as `parity.compare.compare` has it.
    """
    start, tasks = _single(meta), _single(episodes)
    ours = jax_gradient(cell, learner, start, tasks, as_trained=as_trained)
    theirs = torch_side(replace(cell, updates=0), reference, start, tasks).meta_gradient
    found = errors(ours, theirs, exact)
    if found.passed or not np.isfinite(found.apart):
        return found

    def double(moved: Meta) -> Arrays:
        return torch_side(replace(cell, updates=0), reference, moved, episodes).meta_gradient

    return replace(found, jump=jump(double, meta, exact))


def jump(gradient: Callable[[Meta], Arrays], meta: Meta, exact: Arrays) -> float:
    """How far `gradient(meta)` moves from `exact` with the rounding of `meta`."""
    farthest = 0.0
    for draw in range(DRAWS):
        generator = np.random.default_rng(draw)

        def moved(leaf: np.ndarray, generator: np.random.Generator = generator) -> np.ndarray:
            return leaf * (1 + UNITS * UNIT * generator.uniform(-1, 1, leaf.shape))

        found = gradient(jax.tree.map(moved, meta))
        farthest = max(farthest, _distance(found, exact, exact))
    return farthest


def errors(ours: Arrays, theirs: Arrays, exact: Arrays) -> Rounding:
    """The errors of two float32 meta-gradients against a float64 one.

    Raises:
      ValueError: names differ, or a side has an array that is not float32, and so has not computed
        in it.
    """
    for side, arrays in (("JAX", ours), ("PyTorch", theirs)):
        if arrays.keys() != exact.keys():
            odd = sorted(arrays.keys() ^ exact.keys())
            raise ValueError(f"{side} in float32 and the float64 gradient differ in {odd}.")
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise ValueError(f"`{name}` of {side} was {array.dtype}; it must be float32.")
    a, b = _double(ours), _double(theirs)
    return Rounding(_distance(a, exact, exact), _distance(b, exact, exact), _distance(a, b, exact))


def _distance(a: Arrays, b: Arrays, exact: Arrays) -> float:
    whole = norm(exact)
    found = []
    for name, array in exact.items():
        size = float(np.linalg.norm(array))
        scale = max(size, FLOOR * whole) if size > BOUND * whole else whole
        found.append(float(np.linalg.norm(a[name] - b[name])) / (scale or 1.0))
    return float(np.max(found))  # NaN if any is NaN


def _single(tree: Any) -> Any:
    def narrow(leaf: np.ndarray) -> np.ndarray:
        return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

    return jax.tree.map(narrow, tree)


def _double(arrays: Arrays) -> Arrays:
    return {name: array.astype(np.float64) for name, array in arrays.items()}
