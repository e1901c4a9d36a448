"""Activations, at points away from their kinks; `parity/audit/kinks.py` has those at them."""

from collections.abc import Callable

import numpy as np

from parity.audit.operations.dense import sigmoid
from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

SPACED = "(rng.permutation(24).reshape(4, 6) - 11.7) / 6"
"""Values 1/6 apart, of which none is nearer than 0.05 to a multiple of 1/6."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
_RULE = (_NODES + 1) / 2, _WEIGHTS / 2
_SELU = 1.0507009873554805, 1.6732632423543772


def above(xp: Primitives, x: Array, kink: float, yes: Array, no: Array) -> Array:
    """`yes` where x is above the kink, `no` elsewhere."""
    return xp.where(xp.real(x) > kink, yes, no)


def relu(xp: Primitives, x: Array) -> Array:
    return above(xp, x, 0, x, x * 0)


def between(xp: Primitives, x: Array, low: float, high: float) -> Array:
    """Clipped to [low, high]."""
    return above(xp, x, high, x * 0 + high, above(xp, x, low, x, x * 0 + low))


def exp_below(xp: Primitives, x: Array) -> Array:
    """exp(x) − 1 below 0; 0 above, where exp might overflow."""
    return xp.exp(above(xp, x, 0, x * 0, x)) - 1


def softplus(xp: Primitives, x: Array) -> Array:
    return relu(xp, x) + xp.log(1 + xp.exp(-above(xp, x, 0, x, -x)))


def erf(xp: Primitives, x: Array) -> Array:
    """2x/√π · ∫₀¹ exp(−x²s²) ds by Gauss and Legendre's rule, exact to rounding for |x| < 6."""
    nodes, weights = (xp.constant(a, x) for a in _RULE)
    squares = (x * x)[..., None] * (nodes * nodes)
    return 1.1283791670955125739 * x * xp.sum(weights * xp.exp(-squares), -1)


def gelu(xp: Primitives, x: Array) -> Array:
    return x * 0.5 * (1 + erf(xp, x * 0.70710678118654752440))


def gelu_tanh(xp: Primitives, x: Array) -> Array:
    return 0.5 * x * (1 + xp.tanh(0.7978845608028653559 * (x + 0.044715 * x * x * x)))


def glu(xp: Primitives, x: Array) -> Array:
    return x[:, :3] * sigmoid(xp, x[:, 3:])


def prelu(xp: Primitives, x: Array, w: Array) -> Array:
    return above(xp, x, 0, x, w * x)


def maxima_of_reversed(xp: Primitives, x: Array) -> Array:
    turned = xp.stack([x[:, k] for k in range(x.shape[1] - 1, -1, -1)], 1)
    return xp.where(xp.real(x) > xp.real(turned), x, turned)


def _of(
    name: str,
    reference: Callable[[Primitives, Array], Array],
    torch: str | None,
    jax: str | None,
    smooth: bool = False,
) -> Operation:
    inputs = {"x": "rng.normal(size=(4, 3))" if smooth else SPACED}
    return Operation(name, "activation", inputs, reference, torch, jax)


OPERATIONS = [
    _of("relu", relu, "F.relu(x)", "jax.nn.relu(x)"),
    _of(
        "leaky_relu",
        lambda xp, x: above(xp, x, 0, x, x / 8),
        "F.leaky_relu(x, 0.125)",
        "jax.nn.leaky_relu(x, 0.125)",
    ),
    _of("relu6", lambda xp, x: between(xp, x, 0, 6), "F.relu6(x)", "jax.nn.relu6(x)"),
    _of("hardtanh", lambda xp, x: between(xp, x, -1, 1), "F.hardtanh(x)", "jax.nn.hard_tanh(x)"),
    _of(
        "hardsigmoid",
        lambda xp, x: between(xp, x + 3, 0, 6) / 6,
        "F.hardsigmoid(x)",
        "jax.nn.hard_sigmoid(x)",
    ),
    _of(
        "hardswish",
        lambda xp, x: x * between(xp, x + 3, 0, 6) / 6,
        "F.hardswish(x)",
        "jax.nn.hard_swish(x)",
    ),
    _of("elu", lambda xp, x: relu(xp, x) + exp_below(xp, x), "F.elu(x)", "jax.nn.elu(x)"),
    _of(
        "celu",
        lambda xp, x: relu(xp, x) + 2 * exp_below(xp, x / 2),
        "F.celu(x, 2.0)",
        "jax.nn.celu(x, 2.0)",
    ),
    _of(
        "selu",
        lambda xp, x: _SELU[0] * (relu(xp, x) + _SELU[1] * exp_below(xp, x)),
        "F.selu(x)",
        "jax.nn.selu(x)",
    ),
    _of("gelu", gelu, "F.gelu(x)", "jax.nn.gelu(x, approximate=False)", smooth=True),
    _of("gelu_tanh", gelu_tanh, "F.gelu(x, approximate='tanh')", "jax.nn.gelu(x)", smooth=True),
    _of("silu", lambda xp, x: x * sigmoid(xp, x), "F.silu(x)", "jax.nn.silu(x)", smooth=True),
    _of(
        "mish",
        lambda xp, x: x * xp.tanh(softplus(xp, x)),
        "F.mish(x)",
        "jax.nn.mish(x)",
        smooth=False,
    ),
    _of("softplus", softplus, "F.softplus(x)", "jax.nn.softplus(x)"),
    _of("sigmoid", sigmoid, "torch.sigmoid(x)", "jax.nn.sigmoid(x)", smooth=True),
    _of(
        "log_sigmoid",
        lambda xp, x: -softplus(xp, -x),
        "F.logsigmoid(x)",
        "jax.nn.log_sigmoid(x)",
    ),
    _of("tanh", lambda xp, x: xp.tanh(x), "torch.tanh(x)", "jnp.tanh(x)", smooth=True),
    _of(
        "softsign",
        lambda xp, x: x / (1 + above(xp, x, 0, x, -x)),
        "F.softsign(x)",
        "jax.nn.soft_sign(x)",
    ),
    _of(
        "softshrink",
        lambda xp, x: x - between(xp, x, -0.5, 0.5),
        "F.softshrink(x, 0.5)",
        None,
    ),
    _of("glu", glu, "F.glu(x)", "jax.nn.glu(x)"),
    Operation(
        "prelu",
        "activation",
        {"x": SPACED, "w": "rng.normal(size=6)"},
        prelu,
        "F.prelu(x, w)",
        "jnp.where(x > 0, x, w * x)",
    ),
    _of(
        "maximum_of_reversed",
        maxima_of_reversed,
        "torch.maximum(x, x.flip(1))",
        "jnp.maximum(x, x[:, ::-1])",
    ),
]
