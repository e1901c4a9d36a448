"""The layers whose obvious form is slow, or wrong, inside a meta-gradient.

Images are `[examples, height, width, channels]`, kernels `[height, width, in, out]`.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from maml_jax.errors import InputError


def conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0) -> jax.Array:
    """Convolution as shifted slices and one matrix product; equal to `conv_reference`.

    Its derivatives are slices and matrix products too, at every order, and stay so when `vmap`
    gives each task its own kernel. `lax.conv` would become a grouped convolution there, whose
    kernel gradient XLA runs at a hundredth of the machine's speed on a CPU (jax#13800).
    """
    height, width, channels, filters = kernel.shape
    if padding:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = (x.shape[1] - height) // stride + 1
    columns = (x.shape[2] - width) // stride + 1
    if rows < 1 or columns < 1:
        raise InputError(
            f"`x` was {x.shape[1]}×{x.shape[2]} with its padding; "
            f"the kernel is {height}×{width}, so it must be at least that."
        )
    slices = [
        x[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
        for i in range(height)
        for j in range(width)
    ]
    if channels == 1:  # stacked whole: an axis of length 1 is slow to copy along
        patches = jnp.stack([part[..., 0] for part in slices], axis=-1)
    else:
        patches = jnp.concatenate(slices, axis=-1)
    return patches @ kernel.reshape(height * width * channels, filters)


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


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over windows of 2×2, an odd last row or column dropped.

    Of equal values the first in reading order gets the gradient, as in PyTorch, where XLA's
    reductions would share it out.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    columns = _later_if_greater(x[:, :, 0::2], x[:, :, 1::2])
    return _later_if_greater(columns[:, 0::2], columns[:, 1::2])


def _later_if_greater(first: jax.Array, later: jax.Array) -> jax.Array:
    return jnp.where((later > first) | jnp.isnan(later), later, first)


glorot = nnx.initializers.glorot_uniform()


class Conv(nnx.Module):
    """`conv` with its kernel and bias.

    The kernel starts Glorot-uniform and the bias at zero, as in the code of the MAML paper, unless
    initialisers are given.
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
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (size, size, in_channels, filters)))
        self.bias = nnx.Param(bias_init(rngs.params(), (filters,)))
        self.stride, self.padding = stride, padding

    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = conv(x, self.kernel[...], stride=self.stride, padding=self.padding)
        return outputs + self.bias[...]


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

    def __call__(self, x: jax.Array) -> jax.Array:
        axes = tuple(range(x.ndim - 1))
        centred = x - x.mean(axes)
        variance = jnp.square(centred).mean(axes)
        return centred * (self.scale[...] * lax.rsqrt(variance + self.epsilon)) + self.bias[...]
