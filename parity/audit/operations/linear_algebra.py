"""Solves and decompositions, of matrices whose order of pivots is known."""

import math
from collections.abc import Callable

import numpy as np

from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_DOMINANT = "rng.normal(size=(3, 3)) / 2 + 2 * np.eye(3)"
_SOLVE = {"a": _DOMINANT, "b": "rng.normal(size=(3, 2))"}
_FACTOR = {"a": "np.tril(rng.normal(size=(3, 3)) / 2 + 2 * np.eye(3))"}
_TALL = {"a": "rng.normal(size=(4, 2)) + 2 * np.eye(4, 2)"}
_PAIR = {"a": "rng.normal(size=(2, 2)) / 4 + np.diag([3, 1])"}
_SPD = "(a @ a.T + {0}(3))"


def solve(xp: Primitives, a: Array, b: Array) -> Array:
    """Gaussian elimination without pivoting."""
    n = a.shape[0]
    rows, right = [a[k] for k in range(n)], [b[k] for k in range(n)]
    for k in range(n):
        for i in range(k + 1, n):
            factor = rows[i][k] / rows[k][k]
            rows[i], right[i] = rows[i] - factor * rows[k], right[i] - factor * right[k]
    found: list[Array] = [None] * n
    for k in reversed(range(n)):
        rest = sum((rows[k][j] * found[j] for j in range(k + 1, n)), right[k] * 0)
        found[k] = (right[k] - rest) / rows[k][k]
    return xp.stack(found, 0)


def eye(xp: Primitives, a: Array) -> Array:
    return xp.constant(np.eye(a.shape[0]), a)


def inverse(xp: Primitives, a: Array) -> Array:
    return solve(xp, a, eye(xp, a))


def pivots(xp: Primitives, a: Array) -> list[Array]:
    rows = [a[k] for k in range(a.shape[0])]
    for k in range(len(rows)):
        for i in range(k + 1, len(rows)):
            rows[i] = rows[i] - rows[i][k] / rows[k][k] * rows[k]
    return [row[k] for k, row in enumerate(rows)]


def determinant(xp: Primitives, a: Array) -> Array:
    return math.prod(pivots(xp, a))


def product(xp: Primitives, a: Array, b: Array) -> Array:
    return xp.einsum("ij,jk->ik", a, b)


def transpose(xp: Primitives, a: Array) -> Array:
    return xp.permute(a, (1, 0))


def positive_definite(xp: Primitives, a: Array) -> Array:
    """aaᵀ + 1."""
    return product(xp, a, transpose(xp, a)) + eye(xp, a)


def lower(xp: Primitives, a: Array) -> Array:
    return a * xp.constant(np.tri(a.shape[0]), a)


def cholesky(xp: Primitives, a: Array) -> Array:
    m = positive_definite(xp, a)
    n = m.shape[0]
    zero = m[0, 0] * 0
    found = [[zero] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = sum((found[i][k] * found[j][k] for k in range(j)), zero)
            found[i][j] = xp.sqrt(m[i, i] - rest) if i == j else (m[i, j] - rest) / found[j][j]
    return xp.stack([xp.stack(row, 0) for row in found], 0)


def factor_solve(xp: Primitives, a: Array, b: Array) -> Array:
    """The solution of llᵀx = b, with the lower triangle l of a."""
    factor = lower(xp, a)
    return solve(xp, product(xp, factor, transpose(xp, factor)), b)


def gram_schmidt(xp: Primitives, a: Array) -> Array:
    """Σ k qₖqₖᵀ of the orthonormal columns qₖ, which has no signs to choose."""
    found: list[Array] = []
    total: Array = 0
    for k in range(a.shape[1]):
        v = a[:, k]
        for q in found:
            v = v - xp.sum(q * v) * q
        found.append(v / xp.sqrt(xp.sum(v * v)))
        total = total + (k + 1) * found[-1][:, None] * found[-1][None]
    return total


def symmetric_values(xp: Primitives, m: Array) -> tuple[Array, Array]:
    """The eigenvalues of a symmetric 2×2 matrix, ascending."""
    middle, half = (m[0, 0] + m[1, 1]) / 2, (m[0, 0] - m[1, 1]) / 2
    root = xp.sqrt(half * half + m[0, 1] * m[1, 0])
    return middle - root, middle + root


def eigenvalues(xp: Primitives, a: Array) -> Array:
    return xp.stack(symmetric_values(xp, (a + transpose(xp, a)) / 2), 0)


def projector(xp: Primitives, a: Array) -> Array:
    """On the eigenvector of the larger eigenvalue."""
    m = (a + transpose(xp, a)) / 2
    low, high = symmetric_values(xp, m)
    return (m - low * eye(xp, a)) / (high - low)


def singular_values(xp: Primitives, a: Array) -> Array:
    low, high = symmetric_values(xp, product(xp, transpose(xp, a), a))
    return xp.stack((xp.sqrt(high), xp.sqrt(low)), 0)


def matrix_exp(xp: Primitives, a: Array) -> Array:
    term = total = eye(xp, a)
    for k in range(1, 37):
        term = product(xp, term, a) / k
        total = total + term
    return total


def least_squares(xp: Primitives, a: Array, b: Array) -> Array:
    t = transpose(xp, a)
    return solve(xp, product(xp, t, a), product(xp, t, b))


def _algebra(
    name: str,
    inputs: dict[str, str],
    reference: Callable[..., Array],
    torch: str,
    jax: str | None = None,
) -> Operation:
    return Operation(name, "linear algebra", inputs, reference, torch, jax)


OPERATIONS = [
    _algebra("solve", _SOLVE, solve, "torch.linalg.solve(a, b)", "jnp.linalg.solve(a, b)"),
    _algebra(
        "triangular_solve",
        _SOLVE,
        lambda xp, a, b: solve(xp, lower(xp, a), b),
        "torch.linalg.solve_triangular(torch.tril(a), b, upper=False)",
        "jax.scipy.linalg.solve_triangular(a, b, lower=True)",
    ),
    _algebra("inverse", {"a": _DOMINANT}, inverse, "torch.linalg.inv(a)", "jnp.linalg.inv(a)"),
    _algebra(
        "determinant", {"a": _DOMINANT}, determinant, "torch.linalg.det(a)", "jnp.linalg.det(a)"
    ),
    _algebra(
        "log_determinant",
        {"a": _DOMINANT},
        lambda xp, a: xp.log(determinant(xp, a)),
        "torch.linalg.slogdet(a)[1]",
        "jnp.linalg.slogdet(a)[1]",
    ),
    _algebra(
        "cholesky",
        {"a": _DOMINANT},
        cholesky,
        f"torch.linalg.cholesky({_SPD.format('torch.eye')})",
        f"jnp.linalg.cholesky({_SPD.format('jnp.eye')})",
    ),
    _algebra(
        "cholesky_solve",
        _FACTOR | {"b": "rng.normal(size=(3, 2))"},
        factor_solve,
        "torch.cholesky_solve(b, torch.tril(a))",
        "jax.scipy.linalg.cho_solve((jnp.tril(a), True), b)",
    ),
    _algebra(
        "cholesky_solve_batched",
        {
            "a": "np.tril(rng.normal(size=(2, 2, 2)) / 2 + 2 * np.eye(2))",
            "b": "rng.normal(size=(2, 2))",
        },
        lambda xp, a, b: xp.stack([factor_solve(xp, a[k], b) for k in range(2)], 0),
        "torch.cholesky_solve(b, torch.tril(a))",
        "jax.vmap(lambda a: jax.scipy.linalg.cho_solve((jnp.tril(a), True), b))(a)",
    ),
    _algebra(
        "cholesky_inverse",
        _FACTOR,
        lambda xp, a: inverse(xp, product(xp, lower(xp, a), transpose(xp, lower(xp, a)))),
        "torch.cholesky_inverse(torch.tril(a))",
    ),
    _algebra(
        "qr",
        _TALL,
        gram_schmidt,
        "(lambda q: (q * torch.tensor([1.0, 2.0])) @ q.T)(torch.linalg.qr(a)[0])",
        "(lambda q: (q * jnp.array([1.0, 2.0])) @ q.T)(jnp.linalg.qr(a)[0])",
    ),
    _algebra(
        "eigenvalues",
        _PAIR,
        eigenvalues,
        "torch.linalg.eigvalsh((a + a.T) / 2)",
        "jnp.linalg.eigvalsh((a + a.T) / 2)",
    ),
    _algebra(
        "eigenvectors",
        _PAIR,
        projector,
        "(lambda v: torch.outer(v, v))(torch.linalg.eigh((a + a.T) / 2)[1][:, 1])",
        "(lambda v: jnp.outer(v, v))(jnp.linalg.eigh((a + a.T) / 2)[1][:, 1])",
    ),
    _algebra(
        "singular_values",
        _PAIR,
        singular_values,
        "torch.linalg.svdvals(a)",
        "jnp.linalg.svd(a, compute_uv=False)",
    ),
    _algebra(
        "matrix_exp",
        {"a": "rng.normal(size=(2, 2)) / 2"},
        matrix_exp,
        "torch.linalg.matrix_exp(a)",
        "jax.scipy.linalg.expm(a)",
    ),
    _algebra(
        "least_squares",
        _TALL | {"b": "rng.normal(size=(4, 2))"},
        least_squares,
        "torch.linalg.lstsq(a, b)[0]",
        "jnp.linalg.lstsq(a, b)[0]",
    ),
    _algebra(
        "pseudo_inverse",
        _TALL,
        lambda xp, a: least_squares(xp, a, xp.constant(np.eye(a.shape[0]), a)),
        "torch.linalg.pinv(a)",
        "jnp.linalg.pinv(a)",
    ),
]
