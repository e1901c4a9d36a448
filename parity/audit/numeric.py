r"""Derivatives from values alone: the source that no framework's differentiation has touched.

One direction is a complex step: for a real-analytic $f$, $\mathrm{Im} f(x + ihu)/h$ is the
derivative to rounding, without a difference of two near numbers, so $h$ may be $10^{-30}$ (Squire &
Trapp 1998). The other directions are central differences of eighth order of it, with the step $s$:
their error is of the order of $s^8$ plus $\epsilon/s$ for each, in NumPy's `longdouble`
($\epsilon = 10^{-19}$ on x86). In mpmath all directions are differences, of numbers of 60 digits.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

import numpy as np

from parity.audit.points import Arrays
from parity.audit.primitives import Array, mpmath_primitives

COMPLEX_STEP = 1e-30
DIGITS = 60
_EIGHTH = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
STENCIL = [(sign * k, sign * weight) for k, weight in _EIGHTH for sign in (1, -1)]
"""Offsets and weights of the first derivative."""
Function = Callable[..., Array]


def step(count: int) -> float:
    """The step of `count` nested differences: smaller where the arithmetic has more digits."""
    extended = np.finfo(np.longdouble).eps < 1e-18
    return (1e-3 if extended else 4e-3) * (2 if count > 1 else 1)


def derivative(f: Function, point: Arrays, along: Sequence[Arrays]) -> float:
    """The derivative of `f` along all of the directions, one after another."""
    first, *others = along
    base = [np.asarray(a, np.longdouble) for a in point]
    complex_parts = [COMPLEX_STEP * np.asarray(a, np.longdouble) for a in first]
    s = step(len(others))
    total = np.longdouble(0)
    for nodes in product(STENCIL, repeat=len(others)):
        weight = reduce(lambda a, node: a * np.longdouble(node[1]), nodes, np.longdouble(1))
        moved = [
            a + sum((node[0] * s * d[k] for node, d in zip(nodes, others, strict=True)), 0.0)
            for k, a in enumerate(base)
        ]
        values = [a + 1j * b for a, b in zip(moved, complex_parts, strict=True)]
        total += weight * np.imag(f(*values))
    return float(total / COMPLEX_STEP / np.longdouble(s) ** len(others))


def derivative_mpmath(
    function_of: Callable[..., Function], point: Arrays, along: Sequence[Arrays]
) -> float:
    """The same by central differences of second order in 60 digits; `function_of(primitives)`."""
    import mpmath

    with mpmath.workdps(DIGITS):
        xp = mpmath_primitives()
        f = function_of(xp)
        like = np.array([mpmath.mpf(0)], dtype=object)
        base = [xp.constant(a, like) for a in point]
        h = mpmath.mpf(10) ** (-DIGITS // (len(along) + 3))
        moves = [[xp.constant(a, like) * h for a in d] for d in along]
        total = mpmath.mpf(0)
        for signs in product((1, -1), repeat=len(along)):
            moved = [
                a + sum(s * d[k] for s, d in zip(signs, moves, strict=True))
                for k, a in enumerate(base)
            ]
            total += int(np.prod(signs)) * f(*moved)
        return float(total / (2 * h) ** len(along))
