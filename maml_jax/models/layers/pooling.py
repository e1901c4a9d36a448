"""Pooling whose gradient is PyTorch's."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from maml_jax.models.layers.examples import Images, Maps


def max_pool(x: Images, scale: Float[Array, " channels"] | float = 1.0) -> Maps:
    """The maximum of each 2×2 window of `[examples, height, width, channels]`.

    An odd last row or column is dropped. Of equal values the first in reading order gets the
    gradient, as in PyTorch; XLA's reductions would share it out.

    Args:
      x: the images.
      scale: for each channel, the number by which `x` is multiplied before it is compared (not in
        the result): where it is negative, the minimum is taken.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    columns = _later_if_greater(x[:, :, 0::2], x[:, :, 1::2], scale)
    return _later_if_greater(columns[:, 0::2], columns[:, 1::2], scale)


def _later_if_greater(
    first: Num[Array, "..."], later: Num[Array, "..."], scale: Float[Array, " channels"] | float
) -> Num[Array, "..."]:
    return jnp.where((later * scale > first * scale) | jnp.isnan(later), later, first)
