"""Batch normalisation by the current batch, with derivatives in few passes over it."""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from maml_jax.models.layers.pooling import max_pool

Values: TypeAlias = Float[Array, "*positions channels"]
Pooled: TypeAlias = Float[Array, "*pooled channels"]
ByChannel: TypeAlias = Float[Array, " channels"]


class BatchNorm(nnx.Module):
    r"""Batch normalisation by the current batch's own statistics, in training and at test.

    $$y = \gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}} + \beta$$

    with mean and (biased) variance over examples and positions, as in the MAML paper's code. There
    are no running averages: support and query are each normalised by themselves, so a prediction
    depends on the other queries beside it ("transductive").
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5, rngs: nnx.Rngs):
        del rngs
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.epsilon = epsilon

    def __call__(self, x: Values, pool: bool = False) -> Pooled:
        return normalise(x, self.scale[...], self.bias[...], self.epsilon, pool)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def normalise(
    x: Values, scale: ByChannel, bias: ByChannel, epsilon: float, pool: bool = False
) -> Pooled:
    r"""Batch normalisation of `[..., channels]`, with `pool` its 2×2 maximum.

    $$\dot y = \frac{\gamma}{\sigma}\dot x + \hat x\,(\dot\gamma - \frac{\gamma}{\sigma}
    \overline{\hat x\dot x}) + (\dot\beta - \frac{\gamma}{\sigma}\overline{\dot x})$$

    In this order the transpose takes two sums over `x` (of the cotangent, and of its product with
    $\hat x$), once for all of $x$, $\gamma$ and $\beta$; the usual order takes three. The maximum
    is taken of $\hat x$ and of the first $\dot x$, before the affine map: so the sums are over a
    quarter of the positions.
    """
    centred, inverse = _centre(x, epsilon)
    return (max_pool(centred, scale) if pool else centred) * (inverse * scale) + bias


@normalise.defjvp
def _(
    epsilon: float,
    pool: bool,
    primals: tuple[Values, ByChannel, ByChannel],
    tangents: tuple[Values, ByChannel, ByChannel],
) -> tuple[Pooled, Pooled]:
    (x, scale, bias), (x_dot, scale_dot, bias_dot) = primals, tangents
    centred, inverse = _centre(x, epsilon)
    mean, product = _mean(x_dot), _mean(centred * x_dot)
    pooled, pooled_dot = centred, x_dot
    if pool:
        pooled, pooled_dot = jax.jvp(lambda x: max_pool(x, scale), (centred,), (x_dot,))
    factor = inverse * scale
    slope = inverse * (scale_dot - factor * inverse * product)
    bias_dot = bias_dot - factor * mean
    return pooled * factor + bias, factor * pooled_dot + pooled * slope + bias_dot


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _centre(x: Values, epsilon: float) -> tuple[Values, ByChannel]:
    """The centred x − μ, and 1/σ."""
    centred = x - _mean(x)
    return centred, lax.rsqrt(_mean(jnp.square(centred)) + epsilon)


@_centre.defjvp
def _(
    epsilon: float, primals: tuple[Values], tangents: tuple[Values]
) -> tuple[tuple[Values, ByChannel], tuple[Values, ByChannel]]:
    (x,), (x_dot,) = primals, tangents
    centred, inverse = _centre(x, epsilon)
    inverse_dot = -(inverse**3) * _mean(centred * x_dot)
    return (centred, inverse), (x_dot - _mean(x_dot), inverse_dot)


def _mean(x: Values) -> ByChannel:
    return x.mean(tuple(range(x.ndim - 1)))
