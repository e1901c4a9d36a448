"""Solutions of a linear equation Av = b whose matrix is known by its products alone."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from maml_jax.kernels.jax_internals import vary_like
from maml_jax.types import Scalar

Vector: TypeAlias = PyTree[Array]
Matrix: TypeAlias = Callable[[Vector], Vector]
"""`matrix(v) -> Av`."""


def conjugate_gradients(matrix: Matrix, b: Vector, steps: int, otherwise: Vector) -> Vector:
    """So many conjugate gradients from 0, as far as the matrix is positive along them.

    Where pᵀAp is not above 0 there is no minimum to find, and the plain method divides by it; v
    then stays as it is, and is `otherwise` if that happens in the first step. Steihaug: "The
    Conjugate Gradient Method and Trust Regions in Large Scale Optimization", SIAM J. Numer. Anal.
    1983.
    """

    def step(_: Any, state: Any) -> Any:
        v, residual, p, positive, solved = state
        Ap = matrix(p)  # noqa: N806
        curvature, before = optax.tree.vdot(p, Ap), optax.tree.vdot(residual, residual)
        solved |= before == 0
        positive &= solved | ~(curvature <= 0)  # a NaN goes on, to be seen
        active = positive & ~solved
        length = jnp.where(active, before / jnp.where(active, curvature, 1), 0)
        v, residual = _add(v, length, p), _add(residual, -length, Ap)
        after = optax.tree.vdot(residual, residual)
        p = _add(residual, after / jnp.where(active, before, 1), p)
        return v, residual, p, positive, solved

    zero = jax.tree.map(jnp.zeros_like, b)
    flags = vary_like((jnp.asarray(True), jnp.asarray(False)), b)
    v, _, _, positive, _ = lax.fori_loop(0, steps, step, (zero, b, b, *flags))
    moved = optax.tree.vdot(v, v) > 0
    return jax.tree.map(lambda v, o: jnp.where(moved | positive, v, o), v, otherwise)


def neumann(matrix: Matrix, b: Vector, steps: int, rate: float) -> Vector:
    """So many steps v ← v + η(b − Av) from 0."""

    def step(_: Any, v: Vector) -> Vector:
        return jax.tree.map(lambda v, b, Av: v + rate * (b - Av), v, b, matrix(v))  # noqa: N803

    return lax.fori_loop(0, steps, step, jax.tree.map(jnp.zeros_like, b))


def _add(a: Vector, factor: Scalar, b: Vector) -> Vector:
    return jax.tree.map(lambda a, b: a + factor * b, a, b)
