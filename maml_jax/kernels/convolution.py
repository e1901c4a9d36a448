r"""Convolution as three operations of JAX that are one another's derivatives.

$y = w * x$ is linear in $w$ and in $x$, so three operations are closed under differentiation, to
every order and in both modes:

- output: $y$ of $(x, w)$,
- input: the transpose of output in $x$, $x$ of $(y, w)$,
- kernel: the transpose of output in $w$, $w$ of $(x, y)$.

The arrays are `x [groups, images, height, width, channels]`, `w [groups, kernel height, kernel
width, channels, filters]` and `y` like `x`. `vmap` over tasks makes groups, each with a kernel of
its own. On a CPU each operation is a call of `cpu/convolution.h`; elsewhere, and where there is no
compiler for it, it has one of the forms of `forms.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from maml_jax.errors import check_choice
from maml_jax.kernels.forms import FORMS, Geometry, Operation, input_by, kernel_by
from maml_jax.kernels.jax_internals import (
    Primitive,
    binary_operation,
    matmul_precision,
    set_batching,
    set_transposes,
    vary_like,
)
from maml_jax.kernels.native import register


def convolve(
    x: Num[Array, "images height width channels"],
    w: Num[Array, "down across channels filters"],
    stride: int,
    padding: int,
) -> Num[Array, "images rows columns filters"]:
    """The convolution of images with a kernel, padded by zeros on all sides."""
    dtype = jnp.result_type(x, w)
    x, w = vary_like(x, w), vary_like(w, x)  # as a checked `shard_map` asks
    (_, high, wide, _), (height, width, _, _) = x.shape, w.shape
    geometry = Geometry((high, wide), (height, width), stride, padding, matmul_precision())
    return _output.bind(x.astype(dtype)[None], w.astype(dtype)[None], geometry=geometry)[0]


class Forms(NamedTuple):
    """The name in `forms.FORMS` of each operation's form."""

    output: str
    input: str
    kernel: str


DEVICES = {
    "cpu": Forms("patches", "patches", "patches"),
    "cuda": Forms("patches", "patches", "patches"),
    "rocm": Forms("patches", "patches", "patches"),
    "tpu": Forms("grouped", "grouped", "grouped"),
}
"""The forms on each kind of device; on a CPU where there is no compiled one.

For CUDA by timing; for a TPU by the bytes that XLA moves (`docs/speed.md` has both); for the others
as for CUDA.
"""


class _Chosen:
    forms: Forms | None = None


@contextmanager
def in_forms(*names: str) -> Iterator[None]:
    """Within it all programs, those for a CPU too, have the operations in these forms.

    One name is that of all three, or three are those of output, input and kernel. It is for the
    whole process: a program compiled meanwhile by another thread gets them too.
    """
    for name in names:
        check_choice("names", name, FORMS)
    before, _Chosen.forms = _Chosen.forms, Forms(*(names * 3 if len(names) == 1 else names))
    try:
        yield
    finally:
        _Chosen.forms = before


def _output_shape(x: Any, w: Any, geometry: Geometry) -> tuple[int, ...]:
    return (*x.shape[:2], *geometry.positions, w.shape[-1])


def _input_shape(y: Any, w: Any, geometry: Geometry) -> tuple[int, ...]:
    return (*y.shape[:2], *geometry.image, w.shape[3])


def _kernel_shape(x: Any, y: Any, geometry: Geometry) -> tuple[int, ...]:
    return (x.shape[0], *geometry.window, x.shape[-1], y.shape[-1])


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
    name: str, shape: Callable[..., tuple[int, ...]], of: Callable[[Operation], Operation]
) -> Primitive:
    """The operation that `of` makes from a form of the output."""

    def on(device: str) -> Operation:
        def in_its_form(a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
            forms = _Chosen.forms or DEVICES[device]
            return of(FORMS[getattr(forms, name)])(a, b, geometry)

        return in_its_form

    operation = binary_operation(
        f"conv_{name}",
        shape,
        {device: on(device) for device in DEVICES},
        cpu_target=lambda dtype: None if _Chosen.forms else register(f"conv_{name}", dtype),
        cpu_attributes=lambda geometry: {
            "stride": np.int64(geometry.stride),
            "padding": np.int64(geometry.padding),
        },
    )
    set_batching(operation, partial(_batched, operation))
    return operation


_output = _operation("output", _output_shape, lambda output: output)
_input = _operation("input", _input_shape, input_by)
_kernel = _operation("kernel", _kernel_shape, kernel_by)

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
