r"""What float32 costs a meta-gradient: in each backend, and between the two.

Both backends start from the same float32 numbers (`parity.cells.build_inputs`). With $G$ the
meta-gradient in float64, and $J$ and $P$ those of JAX and of PyTorch in float32, the errors are
those of $J$ against $G$, of $P$ against $G$, and of $J$ against $P$. Each array's error is relative
to its norm in $G$, or to a hundredth of the norm of $G$ if that is larger. An array that is zero in
exact arithmetic, such as the gradient of a bias ahead of batch norm, holds nothing but rounding
errors in either backend, and is measured relative to the whole of $G$. The largest error of all
arrays counts.

The third error is never above the sum of the first two, whatever a backend does wrong, so a bound
by that sum would always hold. The bound is by the smaller of the two: the backend that rounds less
shows what float32 can do on this problem, and one that needs much more has lost precision,

$$\lVert J-P\rVert \le
  \max\bigl(10\,\max(\min(\lVert J-G\rVert, \lVert P-G\rVert),\; u),\; 2j\bigr)$$

in relative errors. The factor is ten because both backends do the same operations in another order,
so that their rounding errors are of the same order of magnitude. $u = 2^{-24}$ is the rounding of
one number, below which an error says nothing.

$j$ is the sensitivity to rounding: how far the float64 meta-gradient moves if every weight moves at
random by up to four $u$ of itself, the largest of eight draws. It is computed only where the first
term does not suffice. A rectifier or a maximum has a kink, where the derivative jumps. If a weight
is within rounding of one, either backend may round to the other branch, and differ by much with no
precision lost. Otherwise $j$ is a few $u$ times the condition of the problem, and excuses nothing.

With Adam inside, both backends have errors of 1e-5 and more. Adam divides by $1-0.999^t$, and in
float32 that subtraction multiplies the rounding of 0.999 by $1/(1-0.999)$. The reference computes
everything in the precision of the weights, as optax does; `torch.optim.Adam` computes this number
in double precision.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

import maml_jax as mj
from maml_jax.types import Meta
from parity.backends import jax_meta_gradient, run_torch
from parity.cells import Cell
from parity.relative_error import BOUND, FLOOR, Arrays, norm
from parity.torch_tools import Reference

FACTOR = 10.0
UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""
UNITS = 4
"""How far a weight moves at most in `sensitivity`, in units of its own rounding."""
DRAWS = 8


@dataclass(frozen=True)
class Rounding:
    """The errors of one cell's meta-gradient in float32, relative and without unit."""

    jax: float
    """Of JAX against float64."""
    torch: float
    """Of PyTorch against float64."""
    difference: float
    """Of JAX against PyTorch."""
    sensitivity: float = 0.0
    """How far float64 moves with its weights' rounding; 0 where it was not computed."""

    @property
    def bound(self) -> float:
        """The largest difference that rounding explains."""
        return max(FACTOR * max(min(self.jax, self.torch), UNIT), 2 * self.sensitivity)

    @property
    def passed(self) -> bool:
        """Whether the difference is within the bound; NaN is not."""
        return bool(np.isfinite([self.jax, self.torch]).all()) and self.difference <= self.bound


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
    """Run both backends in float32.

    Args:
      cell: what to compare.
      learner: the learner in JAX.
      reference: the algorithm in PyTorch.
      meta: where both start from, float64 arrays of float32 numbers.
      episodes: the tasks, likewise.
      exact: the meta-gradient in float64.
      as_trained: as in `parity.compare.compare`.
    """
    once = replace(cell, updates=0)
    start, tasks = _to_float32(meta), _to_float32(episodes)
    of_jax = jax_meta_gradient(cell, learner, start, tasks, as_trained=as_trained)
    of_torch = run_torch(once, reference, start, tasks).meta_gradient
    found = errors(of_jax, of_torch, exact)
    if found.passed or not np.isfinite(found.difference):
        return found

    def in_float64(moved: Meta) -> Arrays:
        return run_torch(once, reference, moved, episodes).meta_gradient

    return replace(found, sensitivity=sensitivity(in_float64, meta, exact))


def sensitivity(gradient: Callable[[Meta], Arrays], meta: Meta, exact: Arrays) -> float:
    """How far `gradient(meta)` moves from `exact` when `meta` moves by its rounding."""
    largest = 0.0
    for draw in range(DRAWS):
        generator = np.random.default_rng(draw)

        def moved(leaf: np.ndarray, generator: np.random.Generator = generator) -> np.ndarray:
            return leaf * (1 + UNITS * UNIT * generator.uniform(-1, 1, leaf.shape))

        found = gradient(jax.tree.map(moved, meta))
        largest = max(largest, _error(found, exact, exact))
    return largest


def errors(of_jax: Arrays, of_torch: Arrays, exact: Arrays) -> Rounding:
    """The errors of two float32 meta-gradients against a float64 one.

    Raises:
      ValueError: names differ, or an array is not float32, so that its backend has computed in
        another precision.
    """
    for backend, arrays in (("JAX", of_jax), ("PyTorch", of_torch)):
        if arrays.keys() != exact.keys():
            names = sorted(arrays.keys() ^ exact.keys())
            raise ValueError(f"{backend} in float32 and the float64 gradient differ in {names}.")
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise ValueError(f"`{name}` of {backend} was {array.dtype}; it must be float32.")
    a, b = _to_float64(of_jax), _to_float64(of_torch)
    return Rounding(_error(a, exact, exact), _error(b, exact, exact), _error(a, b, exact))


def _error(a: Arrays, b: Arrays, exact: Arrays) -> float:
    """The largest relative error of `a` against `b`, measured by the sizes in `exact`."""
    whole = norm(exact)
    found = []
    for name, array in exact.items():
        size = float(np.linalg.norm(array))
        scale = max(size, FLOOR * whole) if size > BOUND * whole else whole
        found.append(float(np.linalg.norm(a[name] - b[name])) / (scale or 1.0))
    return float(np.max(found))  # NaN if any is NaN


def _to_float32(tree: Any) -> Any:
    def narrow(leaf: np.ndarray) -> np.ndarray:
        return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

    return jax.tree.map(narrow, tree)


def _to_float64(arrays: Arrays) -> Arrays:
    return {name: array.astype(np.float64) for name, array in arrays.items()}
