r"""How far arrays are apart.

The error of an array $a$ against the reference $b$, in a set of arrays with the reference $B$ as a
whole (all weights after one inner step, or the whole meta-gradient), is

$$\frac{\lVert a-b\rVert}{\max(\lVert b\rVert,\; 10^{-2}\,\lVert B\rVert)}$$

or the plain $\lVert a-b\rVert$ where $B$ is zero; of a set, the largest of its arrays' errors; of a
trajectory, the largest over tasks. The second term of the maximum is for arrays that are zero in
exact arithmetic, such as the gradient of a bias ahead of batch norm. Rounding leaves them at 1e-17
to 3e-14 of $\lVert B\rVert$ (measured), different on each side, and a ratio of two roundings says
nothing. With the factor 1e-2 the bound of 1e-10 asks them to agree to 1e-12 of $\lVert B\rVert$,
while whatever is above a hundredth of $\lVert B\rVert$ must agree to 1e-10 of itself.
"""

from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]
"""Arrays in PyTorch's layout, by PyTorch's names."""

BOUND = 1e-10
OUTER_BOUND = 1e-8
"""Of the meta-parameters after every outer update."""
FLOOR = 1e-2


def relative_error(ours: Arrays, theirs: Arrays) -> tuple[str, float]:
    """The array that is furthest from its reference, and its error as the module defines it.

    Raises:
      ValueError: names or shapes differ, or an array is not float64.
    """
    if ours.keys() != theirs.keys():
        raise ValueError(f"one side alone had the weights {sorted(ours.keys() ^ theirs.keys())}.")
    whole = norm(theirs)
    errors = []
    for path, b in theirs.items():
        a = ours[path]
        if a.shape != b.shape or a.dtype != np.float64 or b.dtype != np.float64:
            raise ValueError(
                f"`{path}` was {a.dtype}{a.shape} against {b.dtype}{b.shape}; both must be "
                "float64 of one shape."
            )
        scale = max(float(np.linalg.norm(b)), FLOOR * whole)
        errors.append((path, float(np.linalg.norm(a - b)) / (scale or 1.0)))
    return max(errors, key=nan_is_largest)


def norm(arrays: Arrays) -> float:
    """Of all of them as one vector."""
    return float(np.sqrt(sum(np.sum(np.square(array)) for array in arrays.values())))


def nan_is_largest(error: tuple[str, float]) -> tuple[bool, float]:
    """A key to sort errors by."""
    return bool(np.isnan(error[1])), error[1]
