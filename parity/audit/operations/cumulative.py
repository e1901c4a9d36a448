"""Cumulative, sorting and extremal operations, away from ties."""

from collections.abc import Callable

from parity.audit.operations.losses import log_softmax
from parity.audit.operations.operation import Operation
from parity.audit.operations.pooling import larger
from parity.audit.primitives import Array, Primitives

_X = {"x": "rng.normal(size=(2, 4))"}
_SPACED = {"x": "(rng.permutation(12).reshape(3, 4) - 5.7) / 3"}
_ZERO = {"x": "np.where(np.arange(8).reshape(2, 4) % 5 == 1, 0, rng.normal(size=(2, 4)))"}


def running(xp: Primitives, x: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """The accumulations along the columns."""
    found = [x[:, 0]]
    for k in range(1, x.shape[1]):
        found.append(combine(found[-1], x[:, k]))
    return xp.stack(found, 1)


def product(xp: Primitives, x: Array) -> Array:
    return running(xp, x, lambda a, b: a * b)[:, -1]


def running_logsumexp(xp: Primitives, x: Array) -> Array:
    def upto(k: int) -> Array:
        return x[:, 0] - log_softmax(xp, x[:, :k])[:, 0]

    return xp.stack([upto(k) for k in range(1, x.shape[1] + 1)], 1)


def ordered(xp: Primitives, x: Array) -> Array:
    return xp.along(x, xp.order(x, 1), 1)


def variance(xp: Primitives, x: Array) -> Array:
    centred = x - xp.sum(x, 1, True) / x.shape[1]
    return xp.sum(centred * centred, 1) / (x.shape[1] - 1)


OPERATIONS = [
    Operation(
        "cumsum",
        "cumulative",
        _X,
        lambda xp, x: running(xp, x, lambda a, b: a + b),
        "torch.cumsum(x, 1)",
        "jnp.cumsum(x, 1)",
    ),
    Operation(
        "cumprod",
        "cumulative",
        _X,
        lambda xp, x: running(xp, x, lambda a, b: a * b),
        "torch.cumprod(x, 1)",
        "jnp.cumprod(x, 1)",
    ),
    Operation(
        "cumprod_with_zero",
        "cumulative",
        _ZERO,
        lambda xp, x: running(xp, x, lambda a, b: a * b),
        "torch.cumprod(x, 1)",
        "jnp.cumprod(x, 1)",
    ),
    Operation("prod", "cumulative", _X, product, "torch.prod(x, 1)", "jnp.prod(x, 1)"),
    Operation("prod_with_zero", "cumulative", _ZERO, product, "torch.prod(x, 1)", "jnp.prod(x, 1)"),
    Operation(
        "logcumsumexp",
        "cumulative",
        _X,
        running_logsumexp,
        "torch.logcumsumexp(x, 1)",
        "lax.cumlogsumexp(x, 1)",
    ),
    Operation(
        "cummax",
        "sorting",
        _SPACED,
        lambda xp, x: running(xp, x, lambda a, b: larger(xp, a, b)),
        "torch.cummax(x, 1).values",
        "lax.cummax(x, 1)",
    ),
    Operation("sort", "sorting", _SPACED, ordered, "torch.sort(x, 1).values", "jnp.sort(x, 1)"),
    Operation(
        "top_k",
        "sorting",
        _SPACED,
        lambda xp, x: xp.stack([ordered(xp, x)[:, k] for k in (3, 2)], 1),
        "torch.topk(x, 2).values",
        "lax.top_k(x, 2)[0]",
    ),
    Operation(
        "max",
        "sorting",
        _SPACED,
        lambda xp, x: ordered(xp, x)[:, -1],
        "torch.amax(x, 1)",
        "jnp.max(x, 1)",
    ),
    Operation(
        "max_with_index",
        "sorting",
        _SPACED,
        lambda xp, x: ordered(xp, x)[:, -1],
        "torch.max(x, 1).values",
        None,
    ),
    Operation(
        "median",
        "sorting",
        {"x": "(rng.permutation(15).reshape(3, 5) - 7.2) / 3"},
        lambda xp, x: ordered(xp, x)[:, 2],
        "torch.median(x, 1).values",
        "jnp.median(x, 1)",
    ),
    Operation(
        "variance",
        "statistics",
        _X,
        variance,
        "torch.var(x, 1)",
        "jnp.var(x, 1, ddof=1)",
    ),
    Operation(
        "standard_deviation",
        "statistics",
        _X,
        lambda xp, x: xp.sqrt(variance(xp, x)),
        "torch.std(x, 1)",
        "jnp.std(x, 1, ddof=1)",
    ),
]
