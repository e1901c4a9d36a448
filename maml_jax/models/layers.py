"""The layers whose obvious form is slow, or wrong, inside a meta-gradient.

Images are `[examples, height, width, channels]`, kernels `[height, width, in, out]`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from maml_jax.errors import InputError
from maml_jax.kernels import convolve


def conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0) -> jax.Array:
    """Convolution by `maml_jax.kernels`, fast under `grad` and `vmap`; equal to `conv_reference`.

    Raises:
      InputError: the kernel is larger than the padded image.
    """
    height, width, _, _ = kernel.shape
    padded = [size + 2 * padding for size in x.shape[1:3]]
    if padded[0] < height or padded[1] < width:
        raise InputError(
            f"`x` was {padded[0]}×{padded[1]} with its padding; "
            f"the kernel is {height}×{width}, so it must be at least that."
        )
    return convolve(x, kernel, stride, padding)


def conv_reference(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0
) -> jax.Array:
    """The plain twin that the tests hold `conv` to."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def max_pool(x: jax.Array, scale: jax.Array | float = 1.0) -> jax.Array:
    """Of each window of 2×2 the value whose product with `scale` is largest; an odd last row or
    column is dropped.

    Of equal ones the first in reading order gets the gradient, as in PyTorch, where XLA's
    reductions would share it out.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    columns = _later_if_greater(x[:, :, 0::2], x[:, :, 1::2], scale)
    return _later_if_greater(columns[:, 0::2], columns[:, 1::2], scale)


def _later_if_greater(first, later, scale):
    return jnp.where((later * scale > first * scale) | jnp.isnan(later), later, first)


glorot = nnx.initializers.glorot_uniform()


class Conv(nnx.Module):
    """`conv` with its kernel and bias.

    The kernel starts Glorot-uniform and the bias at zero, as in the code of the MAML paper, unless
    initialisers are given. Where a batch norm follows (`normalised`), which takes constants away,
    the bias is a weight that has no effect: its gradient is 0, and it is not added at all.
    """

    def __init__(
        self,
        in_channels: int,
        filters: int,
        *,
        size: int = 3,
        stride: int = 1,
        padding: int = 0,
        kernel_init: nnx.Initializer = glorot,
        bias_init: nnx.Initializer = nnx.initializers.zeros,
        normalised: bool = False,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (size, size, in_channels, filters)))
        self.bias = nnx.Param(bias_init(rngs.params(), (filters,)))
        self.stride, self.padding, self.normalised = stride, padding, normalised

    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = conv(x, self.kernel[...], stride=self.stride, padding=self.padding)
        return outputs if self.normalised else outputs + self.bias[...]


class Linear(nnx.Module):
    """A dense layer on `[examples, in]`: `conv` on images of one pixel.

    For widths of some tens a CPU computes a task's kernel gradient so in half the time that XLA's
    batched product takes; the rest is even. The bias starts at zero.
    """

    def __init__(
        self, in_features: int, out_features: int, *, kernel_init: nnx.Initializer, rngs: nnx.Rngs
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (in_features, out_features)))
        self.bias = nnx.Param(nnx.initializers.zeros(rngs.params(), (out_features,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return conv(x[:, None, None], self.kernel[...][None, None])[:, 0, 0] + self.bias[...]


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
    r"""Batch normalisation of `[..., channels]`, or its 2×2 maximum, in few passes over `x`.

    $$\dot y = \frac{\gamma}{\sigma}\dot x + \hat x\,(\dot\gamma - \frac{\gamma}{\sigma}
    \overline{\hat x\dot x}) + (\dot\beta - \frac{\gamma}{\sigma}\overline{\dot x})$$

    In this order the transpose needs the sums of the cotangent and of its product with $\hat x$,
    once for all of $x$, $\gamma$ and $\beta$; that of the formula as it stands needs a third. What
    is pooled is $x$, and only the first $\dot x$ and $\hat x$ with it: then the sums are over a
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
    """What is x − μ, and 1/σ."""
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
