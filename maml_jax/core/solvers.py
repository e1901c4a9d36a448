"""Solutions of a linear equation Av = b whose matrix is known by its products alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax


def conjugate_gradients(matrix: Callable[[Any], Any], b: Any, steps: int, otherwise: Any) -> Any:
    """So many conjugate gradients from 0, as far as the matrix is positive along them.

    Where pᵀAp is not above 0 there is no minimum to find, and the plain method divides by it; v
    then stays as it is, and is `otherwise` if that is so at once. Steihaug: "The Conjugate Gradient
    Method and Trust Regions in Large Scale Optimization", SIAM J. Numer. Anal. 1983.
    """

    def step(_, state):
        v, left, p, positive, solved = state
        turned = matrix(p)
        curvature, before = optax.tree.vdot(p, turned), optax.tree.vdot(left, left)
        solved |= before == 0
        positive &= solved | (curvature > 0)
        going = positive & ~solved
        length = jnp.where(going, before / jnp.where(going, curvature, 1), 0)
        v, left = _plus(v, length, p), _plus(left, -length, turned)
        after = optax.tree.vdot(left, left)
        return v, left, _plus(left, after / jnp.where(going, before, 1), p), positive, solved

    zero = jax.tree.map(jnp.zeros_like, b)
    v, _, _, positive, _ = lax.fori_loop(0, steps, step, (zero, b, b, True, False))
    moved = optax.tree.vdot(v, v) > 0
    return jax.tree.map(lambda v, o: jnp.where(moved | positive, v, o), v, otherwise)


def neumann(matrix: Callable[[Any], Any], b: Any, steps: int, rate: float) -> Any:
    """So many steps v ← v + η(b − Av) from 0."""

    def step(_, v):
        return jax.tree.map(lambda v, b, turned: v + rate * (b - turned), v, b, matrix(v))

    return lax.fori_loop(0, steps, step, jax.tree.map(jnp.zeros_like, b))


def _plus(a, factor, b):
    return jax.tree.map(lambda a, b: a + factor * b, a, b)
