r"""The convolution's three operations by operations of JAX alone, in several forms.

A form is the output $y$ of $(x, w)$; the other two operations are its transposes. All forms compute
the same numbers to rounding. Which is the fastest depends on the device and on the layer: the peers
`maml_jax_patches`, `maml_jax_taps` and `maml_jax_grouped` of `python -m benchmarks` time them, and
`python -m benchmarks.compiled --forms patches,taps,grouped` asks XLA.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax


class Geometry(NamedTuple):
    """What all three operations have in common."""

    image: tuple[int, int]
    window: tuple[int, int]
    stride: int
    padding: int
    precision: str | None
    """That of matrix products, as JAX is set where the convolution is traced."""

    @property
    def positions(self) -> tuple[int, int]:
        """How many positions the window has, down and across."""
        down, across = (
            (image + 2 * self.padding - window) // self.stride + 1
            for image, window in zip(self.image, self.window, strict=True)
        )
        return down, across


Operation: TypeAlias = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


def patches(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """All that the window sees at each position in one row, and one matrix product."""
    (groups, images, _, _, channels), filters = x.shape, w.shape[-1]
    (height, width), (rows, columns) = geometry.window, geometry.positions
    x = _padded(x, geometry)
    x = x.reshape(groups * images, *x.shape[2:])
    slices = [_slice(x, i, j, geometry) for i in range(height) for j in range(width)]
    if channels == 1:  # stacked whole: an axis of length 1 is slow to copy along
        rows_of = jnp.stack([part[..., 0] for part in slices], axis=-1)
    else:
        rows_of = jnp.concatenate(slices, axis=-1)
    w = w.reshape(groups, height * width * channels, filters)
    multiply = partial(jnp.matmul, precision=geometry.precision)
    if groups == 1:
        return multiply(rows_of, w[0])[None]
    y = multiply(rows_of.reshape(groups, images * rows * columns, -1), w)
    return y.reshape(groups, images, rows, columns, filters)


def taps(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """A matrix product for each place in the window, and their sum: nothing is copied."""
    (height, width), x = geometry.window, _padded(x, geometry)
    multiply = partial(jnp.einsum, "gnhwc,gcf->gnhwf", precision=geometry.precision)
    places = [(i, j) for i in range(height) for j in range(width)]
    first, *others = (multiply(_slice(x, i, j, geometry), w[:, i, j]) for i, j in places)
    return sum(others, first)


def grouped(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """`lax.conv`, whose groups of channels are ours.

    XLA runs the kernel's gradient of it at a hundredth of a CPU's speed (jax#13800).
    """
    (groups, images, *size, channels), filters = x.shape, w.shape[-1]
    x = jnp.moveaxis(x, 0, 3).reshape(images, *size, groups * channels)
    w = jnp.moveaxis(w, 0, 3).reshape(*geometry.window, channels, groups * filters)
    margin = (geometry.padding, geometry.padding)
    y = lax.conv_general_dilated(
        x,
        w,
        window_strides=(geometry.stride, geometry.stride),
        padding=(margin, margin),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=geometry.precision,
    )
    return jnp.moveaxis(y.reshape(*y.shape[:-1], groups, filters), 3, 0)


FORMS: dict[str, Operation] = {"patches": patches, "taps": taps, "grouped": grouped}


def input_by(output: Operation) -> Operation:
    """The transpose in `x`: `x` of `(y, w)`."""

    def transposed(y: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
        x = jax.ShapeDtypeStruct((*y.shape[:2], *geometry.image, w.shape[3]), y.dtype)
        return jax.linear_transpose(lambda x: output(x, w, geometry), x)(y)[0]

    return transposed


def kernel_by(output: Operation) -> Operation:
    """The transpose in `w`: `w` of `(x, y)`."""

    def transposed(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
        shape = (x.shape[0], *geometry.window, x.shape[-1], y.shape[-1])
        w = jax.ShapeDtypeStruct(shape, x.dtype)
        return jax.linear_transpose(lambda w: output(x, w, geometry), w)(y)[0]

    return transposed


def _padded(x: jax.Array, geometry: Geometry) -> jax.Array:
    margin = (geometry.padding, geometry.padding)
    return jnp.pad(x, ((0, 0), (0, 0), margin, margin, (0, 0)))


def _slice(x: jax.Array, i: int, j: int, geometry: Geometry) -> jax.Array:
    """What the place `(i, j)` of the window sees, of images `[..., height, width, channels]`."""
    rows, columns = geometry.positions
    down = slice(i, i + geometry.stride * rows, geometry.stride)
    across = slice(j, j + geometry.stride * columns, geometry.stride)
    return x[..., down, across, :]
