"""Convolution, fast where each task has its own kernel.

Images are `[examples, height, width, channels]`, kernels `[height, width, in, out]`.
"""

from typing import TypeAlias

from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from maml_jax.errors import InputError
from maml_jax.kernels import convolve
from maml_jax.models.layers.examples import Images, Maps

Kernel: TypeAlias = Float[Array, "down across in out"]

glorot = nnx.initializers.glorot_uniform()


def conv(x: Images, kernel: Kernel, *, stride: int = 1, padding: int = 0) -> Maps:
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


def conv_reference(x: Images, kernel: Kernel, *, stride: int = 1, padding: int = 0) -> Maps:
    """The plain twin that the tests hold `conv` to."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class Conv(nnx.Module):
    """`conv` with its kernel and bias.

    The kernel starts Glorot-uniform and the bias at zero, as in the code of the MAML paper, unless
    initialisers are given. A batch norm that follows (`normalised`) takes constants away: then the
    bias has no effect and a gradient of 0, and is not added at all.
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

    def __call__(self, x: Images) -> Maps:
        outputs = conv(x, self.kernel[...], stride=self.stride, padding=self.padding)
        return outputs if self.normalised else outputs + self.bias[...]
