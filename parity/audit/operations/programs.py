"""Whole meta-gradients: two inner steps for each of four tasks, in one program.

The reference writes the inner gradient out by hand, so it differentiates only once.
"""

from collections.abc import Callable

import numpy as np

from parity.audit.operations.activations import maxima_of_reversed
from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_WEIGHTS = {
    "w": "rng.normal(size=(1, 8))",
    "b": "rng.normal(size=8)",
    "v": "rng.normal(size=(8, 1))",
    "c": "rng.normal(size=1)",
}
RATE = 0.1
SIZES = (5, 5, 7, 7)
TASKS = [
    np.sin(k * np.arange(4.0 * n)).reshape(4, n, 1).astype(np.float32).astype(float)
    for k, n in enumerate(SIZES, 1)
]
"""Of four tasks: inputs and targets of five support examples, then of seven query examples."""
_DATA = (
    "[{0}.asarray(np.sin(k * np.arange(4.0 * n)).reshape(4, n, 1).astype('f')){1} "
    "for k, n in enumerate((5, 5, 7, 7), 1)]"
)
Activation = Callable[[Primitives, Array], Array]
Slope = Callable[[Primitives, Array, Array], Array]
"""`slope(xp, h, g)`: the cotangent of h for the cotangent g of its activation."""


def maml(act: Activation, slope: Slope) -> Callable[..., Array]:
    """The mean query loss after two steps, as a function of the weights."""

    def loss(xp: Primitives, p: list[Array], x: Array, y: Array) -> Array:
        out = xp.einsum("nh,ho->no", act(xp, x * p[0] + p[1]), p[2]) + p[3]
        return xp.sum((out - y) * (out - y)) / x.shape[0]

    def gradient(xp: Primitives, p: list[Array], x: Array, y: Array) -> list[Array]:
        h = x * p[0] + p[1]
        a = act(xp, h)
        error = 2 * (xp.einsum("nh,ho->no", a, p[2]) + p[3] - y) / x.shape[0]
        back = slope(xp, h, xp.einsum("no,ho->nh", error, p[2]))
        return [
            xp.sum(x * back, 0, True),
            xp.sum(back, 0),
            xp.einsum("nh,no->ho", a, error),
            xp.sum(error, 0),
        ]

    def total(xp: Primitives, *weights: Array) -> Array:
        losses = []
        for k in range(4):
            x, y, new_x, new_y = (xp.constant(a[k], weights[0]) for a in TASKS)
            p = list(weights)
            for _ in range(2):
                found = gradient(xp, p, x, y)
                p = [a - RATE * g for a, g in zip(p, found, strict=True)]
            losses.append(loss(xp, p, new_x, new_y))
        return sum(losses) / len(losses)

    return total


def _tanh_slope(xp: Primitives, h: Array, g: Array) -> Array:
    return g * (1 - xp.tanh(h) ** 2)


def _reversed_slope(xp: Primitives, h: Array, g: Array) -> Array:
    """Both of a pair have the larger value, so it gets both cotangents."""
    columns = range(h.shape[1] - 1, -1, -1)
    turned = xp.stack([h[:, k] for k in columns], 1)
    both = g + xp.stack([g[:, k] for k in columns], 1)
    return xp.where(xp.real(h) > xp.real(turned), both, both * 0)


def _program(name: str, act: Activation, slope: Slope, torch: str, jax: str) -> Operation:
    data = _DATA.format("jnp", ".astype(w.dtype)")
    mine = "mj.losses.mean_squared_error"
    return Operation(
        f"maml_{name}",
        "programs",
        _WEIGHTS,
        maml(act, slope),
        f"maml((w, b, v, c), lambda h: {torch}, {_DATA.format('torch', '.to(w)')})",
        f"maml((w, b, v, c), lambda h: {jax}, {data})",
        f"own_maml((w, b, v, c), lambda h: {jax}, {data}, {mine})",
        scaled=False,
    )


OPERATIONS = [
    _program(
        "tanh",
        lambda xp, h: xp.tanh(h),
        _tanh_slope,
        "torch.tanh(h)",
        "jnp.tanh(h)",
    ),
    _program(
        "maximum_of_reversed",
        maxima_of_reversed,
        _reversed_slope,
        "torch.maximum(h, h.flip(1))",
        "jnp.maximum(h, h[:, ::-1])",
    ),
]
