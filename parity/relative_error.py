r"""The relative error between arrays.

The error of an array $a$ against the reference $b$, in a set of arrays with the reference $B$ as a
whole (all weights after one inner step, or the whole meta-gradient), is

$$\frac{\lVert a-b\rVert}{\max(\lVert b\rVert,\; 10^{-2}\,\lVert B\rVert)}$$

or $\lVert a-b\rVert$ where $B$ is zero. The error of a set is the largest of its arrays' errors,
that of a trajectory the largest over tasks. The second term of the maximum is for arrays that are
zero in exact arithmetic, such as the gradient of a bias ahead of batch norm. Rounding leaves them
at 1e-17 to 3e-14 of $\lVert B\rVert$ (measured), different in each backend, and a ratio of two
rounding errors says nothing. With the factor 1e-2 the bound of 1e-10 requires them to agree to
1e-12 of $\lVert B\rVert$, while whatever is above a hundredth of $\lVert B\rVert$ must agree to
1e-10 of itself.
"""

from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]
"""Arrays in PyTorch's layout, by PyTorch's names."""

BOUND = 1e-10
OUTER_BOUND = 1e-8
"""For the meta-parameters after every outer update."""
FLOOR = 1e-2
"""The smallest scale of an array, as a fraction of the whole set's norm."""


def relative_error(ours: Arrays, theirs: Arrays) -> tuple[str, float]:
    """The name of the array with the largest error, and its error as the module defines it.

    Raises:
      ValueError: names or shapes differ, or an array is not float64.
    """
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"only one of the two has the weights {sorted(ours.keys() ^ theirs.keys())}."
        )
    whole = norm(theirs)
    errors = []
    for path, b in theirs.items():
        a = ours[path]
        if a.shape != b.shape or a.dtype != np.float64 or b.dtype != np.float64:
            raise ValueError(
                f"`{path}` was {a.dtype}{a.shape} against {b.dtype}{b.shape}; both must be "
                "float64 of one shape."
            )
        errors.append((path, array_error(a, b, whole)))
    return max(errors, key=nan_is_largest)


def array_error(a: np.ndarray, b: np.ndarray, whole: float) -> float:
    """The relative error of one array; `whole` is the norm of the reference set."""
    scale = max(float(np.linalg.norm(b)), FLOOR * whole)
    return float(np.linalg.norm(a - b)) / (scale or 1.0)


def norm(arrays: Arrays) -> float:
    """The norm of all arrays as one vector."""
    return float(np.sqrt(sum(np.sum(np.square(array)) for array in arrays.values())))


def nan_is_largest(error: tuple[str, float]) -> tuple[bool, float]:
    """A key that sorts named errors, NaN last."""
    return bool(np.isnan(error[1])), error[1]
