r"""Convolution as three operations of JAX that are one another's derivatives.

$y = w * x$ is linear in $w$ and in $x$, so three operations are closed under differentiation, to
every order and in both modes:

- output: $y$ of $(x, w)$,
- input: the transpose of output in $x$, $x$ of $(y, w)$,
- kernel: the transpose of output in $w$, $w$ of $(x, y)$.

The arrays are `x [groups, images, height, width, channels]`, `w [groups, kernel height, kernel
width, channels, filters]` and `y` like `x`. `vmap` over tasks makes groups, each with a kernel of
its own. On a CPU each operation is a call of `cpu/convolution.h`; elsewhere, and where there is no
compiler for it, it is slices and matrix products in JAX.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from maml_jax.kernels.jax_internals import (
    Primitive,
    binary_operation,
    matmul_precision,
    set_batching,
    set_transposes,
)
from maml_jax.kernels.native import register


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


def convolve(
    x: Num[Array, "images height width channels"],
    w: Num[Array, "down across channels filters"],
    stride: int,
    padding: int,
) -> Num[Array, "images rows columns filters"]:
    """The convolution of images with a kernel, padded by zeros on all sides."""
    dtype = jnp.result_type(x, w)
    (_, high, wide, _), (height, width, _, _) = x.shape, w.shape
    geometry = Geometry((high, wide), (height, width), stride, padding, matmul_precision())
    return _output.bind(x.astype(dtype)[None], w.astype(dtype)[None], geometry=geometry)[0]


class _Form:
    plain = False


@contextmanager
def plain_form() -> Iterator[None]:
    """Within it programs for a CPU get the form that accelerators run, which tests compare.

    It is for the whole process: a program compiled meanwhile by another thread gets it too.
    """
    before, _Form.plain = _Form.plain, True
    try:
        yield
    finally:
        _Form.plain = before


def _output_shape(x: Any, w: Any, geometry: Geometry) -> tuple[int, ...]:
    return (*x.shape[:2], *geometry.positions, w.shape[-1])


def _input_shape(y: Any, w: Any, geometry: Geometry) -> tuple[int, ...]:
    return (*y.shape[:2], *geometry.image, w.shape[3])


def _kernel_shape(x: Any, y: Any, geometry: Geometry) -> tuple[int, ...]:
    return (x.shape[0], *geometry.window, x.shape[-1], y.shape[-1])


def _plain_output(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """Shifted slices and one matrix product.

    `lax.conv` with a kernel for each group would be a grouped convolution, whose kernel gradient
    XLA runs at a hundredth of the machine's speed on a CPU (jax#13800).
    """
    (groups, images, _, _, channels), filters = x.shape, w.shape[-1]
    (height, width), (rows, columns) = geometry.window, geometry.positions
    stride, margin = geometry.stride, (geometry.padding, geometry.padding)
    x = jnp.pad(x, ((0, 0), (0, 0), margin, margin, (0, 0)))
    x = x.reshape(groups * images, *x.shape[2:])
    slices = [
        x[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
        for i in range(height)
        for j in range(width)
    ]
    if channels == 1:  # stacked whole: an axis of length 1 is slow to copy along
        patches = jnp.stack([part[..., 0] for part in slices], axis=-1)
    else:
        patches = jnp.concatenate(slices, axis=-1)
    w = w.reshape(groups, height * width * channels, filters)
    multiply = partial(jnp.matmul, precision=geometry.precision)
    if groups == 1:
        return multiply(patches, w[0])[None]
    y = multiply(patches.reshape(groups, images * rows * columns, -1), w)
    return y.reshape(groups, images, rows, columns, filters)


def _plain_input(y: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    x = jax.ShapeDtypeStruct(_input_shape(y, w, geometry), y.dtype)
    return jax.linear_transpose(lambda x: _plain_output(x, w, geometry), x)(y)[0]


def _plain_kernel(x: jax.Array, y: jax.Array, geometry: Geometry) -> jax.Array:
    w = jax.ShapeDtypeStruct(_kernel_shape(x, y, geometry), x.dtype)
    return jax.linear_transpose(lambda w: _plain_output(x, w, geometry), w)(y)[0]


def _batched(
    operation: Primitive, arguments: Any, axes: Any, *, geometry: Geometry
) -> tuple[jax.Array, int]:
    """A batch is more groups; or more images, where all share the kernel."""
    pairs = list(zip(arguments, axes, strict=True))
    size = next(array.shape[axis] for array, axis in pairs if axis is not None)
    if axes[1] is None and operation is not _kernel:
        images = jnp.moveaxis(arguments[0], axes[0], 1)
        flat = images.reshape(images.shape[0], -1, *images.shape[3:])
        out = operation.bind(flat, arguments[1], geometry=geometry)
        return out.reshape(*images.shape[:3], *out.shape[2:]), 1
    whole = (
        jnp.broadcast_to(array, (size, *array.shape))
        if axis is None
        else jnp.moveaxis(array, axis, 0)
        for array, axis in pairs
    )
    groups = (array.reshape(-1, *array.shape[2:]) for array in whole)
    out = operation.bind(*groups, geometry=geometry)
    return out.reshape(size, -1, *out.shape[1:]), 0


def _operation(
    name: str, shape: Callable[..., tuple[int, ...]], plain: Callable[..., jax.Array]
) -> Primitive:
    name = f"conv_{name}"
    operation = binary_operation(
        name,
        shape,
        plain,
        cpu_target=lambda dtype: None if _Form.plain else register(name, dtype),
        cpu_attributes=lambda geometry: {
            "stride": np.int64(geometry.stride),
            "padding": np.int64(geometry.padding),
        },
    )
    set_batching(operation, partial(_batched, operation))
    return operation


_output = _operation("output", _output_shape, _plain_output)
_input = _operation("input", _input_shape, _plain_input)
_kernel = _operation("kernel", _kernel_shape, _plain_kernel)

# Of y(x, w), x(y, w) and w(x, y): each transpose is one of the other two.
set_transposes(_output, _input.bind, _kernel.bind)
set_transposes(
    _input, _output.bind, lambda y, x, *, geometry: _kernel.bind(x, y, geometry=geometry)
)
set_transposes(
    _kernel,
    lambda w, y, *, geometry: _input.bind(y, w, geometry=geometry),
    lambda x, w, *, geometry: _output.bind(x, w, geometry=geometry),
)
