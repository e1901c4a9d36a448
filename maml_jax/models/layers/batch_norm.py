"""Batch normalisation by the current batch, with derivatives in few passes over it."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from maml_jax.models.layers.pooling import max_pool


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

    def __call__(self, x: jax.Array, pool: bool = False) -> jax.Array:
        return normalise(x, self.scale[...], self.bias[...], self.epsilon, pool)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, pool: bool = False
) -> jax.Array:
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
def _(epsilon, pool, primals, tangents):
    (x, scale, bias), (x_dot, scale_dot, bias_dot) = primals, tangents
    centred, inverse = _centre(x, epsilon)
    mean, product = _mean(x_dot), _mean(centred * x_dot)
    kept, kept_dot = centred, x_dot
    if pool:
        kept, kept_dot = jax.jvp(lambda x: max_pool(x, scale), (centred,), (x_dot,))
    factor = inverse * scale
    slope = inverse * (scale_dot - factor * inverse * product)
    return kept * factor + bias, factor * kept_dot + kept * slope + (bias_dot - factor * mean)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _centre(x, epsilon):
    """X − μ and 1/σ."""
    centred = x - _mean(x)
    return centred, lax.rsqrt(_mean(jnp.square(centred)) + epsilon)


@_centre.defjvp
def _(epsilon, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    centred, inverse = _centre(x, epsilon)
    inverse_dot = -(inverse**3) * _mean(centred * x_dot)
    return (centred, inverse), (x_dot - _mean(x_dot), inverse_dot)


def _mean(x):
    return x.mean(tuple(range(x.ndim - 1)))
