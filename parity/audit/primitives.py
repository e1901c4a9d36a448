"""The few array functions from which every reference is written, in four kinds of arithmetic.

A reference such as `layer_norm(xp, x, w, b)` uses the operators of Python and what `Primitives`
has. It runs in PyTorch and in JAX, where it is differentiated, and in NumPy, in complex numbers of
extended precision and in numbers of mpmath, where it is not: there differences tell its
derivatives.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""An array of NumPy, PyTorch or JAX; they share the operators, `shape`, indexing and `reshape`."""


class Primitives(NamedTuple):
    """What a reference may use besides `+ - * / ** @`, slices and `reshape`."""

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    sqrt: Callable[[Array], Array]
    tanh: Callable[[Array], Array]
    real: Callable[[Array], Array]
    """The real part, to compare."""
    where: Callable[[Array, Array, Array], Array]
    sum: Callable[..., Array]
    """`sum(x, axis, keepdims)`"""
    einsum: Callable[..., Array]
    permute: Callable[[Array, tuple[int, ...]], Array]
    stack: Callable[[Sequence[Array], int], Array]
    concatenate: Callable[[Sequence[Array], int], Array]
    constant: Callable[[Any, Array], Array]
    """`constant(values, like)`: numbers in the arithmetic of `like`."""
    order: Callable[[Array, int], Array]
    """The indices that sort the real parts along an axis."""
    along: Callable[[Array, Array, int], Array]
    """Elements by indices along an axis."""


def _numpy(**others: Any) -> Primitives:
    return Primitives(
        **{
            "exp": np.exp,
            "log": np.log,
            "sqrt": np.sqrt,
            "tanh": np.tanh,
            "real": np.real,
            "where": np.where,
            "sum": lambda x, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
            "einsum": np.einsum,
            "permute": np.transpose,
            "stack": lambda arrays, axis: np.stack(arrays, axis),
            "concatenate": lambda arrays, axis: np.concatenate(arrays, axis),
            "constant": lambda values, like: np.asarray(values).astype(like.dtype),
            "order": lambda x, axis: np.argsort(np.real(x), axis, kind="stable"),
            "along": lambda x, indices, axis: np.take_along_axis(x, indices, axis),
            **others,
        }
    )


NUMPY = _numpy()


def mpmath_primitives() -> Primitives:
    """Of object arrays that hold numbers of mpmath."""
    import mpmath

    def each(function: Any) -> Callable[[Array], Array]:
        of = np.frompyfunc(function, 1, 1)
        return lambda x: np.asarray(of(x), dtype=object)

    return _numpy(
        exp=each(mpmath.exp),
        log=each(mpmath.log),
        sqrt=each(mpmath.sqrt),
        tanh=each(mpmath.tanh),
        real=lambda x: x,
        constant=lambda values, like: each(mpmath.mpf)(np.asarray(values, dtype=float)),
        order=lambda x, axis: np.argsort(x.astype(float), axis, kind="stable"),
    )


def torch_primitives() -> Primitives:
    """Of tensors."""
    import torch

    def total(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        return torch.sum(x) if axis is None else torch.sum(x, dim=axis, keepdim=keepdims)

    return Primitives(
        exp=torch.exp,
        log=torch.log,
        sqrt=torch.sqrt,
        tanh=torch.tanh,
        real=lambda x: x,
        where=torch.where,
        sum=total,
        einsum=torch.einsum,
        permute=lambda x, axes: x.permute(axes),
        stack=lambda arrays, axis: torch.stack(tuple(arrays), axis),
        concatenate=lambda arrays, axis: torch.cat(tuple(arrays), axis),
        constant=lambda values, like: torch.as_tensor(
            np.asarray(values), dtype=like.dtype, device=like.device
        ),
        order=lambda x, axis: torch.argsort(x, dim=axis, stable=True),
        along=lambda x, indices, axis: torch.gather(x, axis, indices),
    )


def jax_primitives() -> Primitives:
    """Of JAX's arrays."""
    import jax.numpy as jnp

    return Primitives(
        exp=jnp.exp,
        log=jnp.log,
        sqrt=jnp.sqrt,
        tanh=jnp.tanh,
        real=lambda x: x,
        where=jnp.where,
        sum=lambda x, axis=None, keepdims=False: jnp.sum(x, axis=axis, keepdims=keepdims),
        einsum=jnp.einsum,
        permute=jnp.transpose,
        stack=lambda arrays, axis: jnp.stack(arrays, axis),
        concatenate=lambda arrays, axis: jnp.concatenate(arrays, axis),
        constant=lambda values, like: jnp.asarray(np.asarray(values), like.dtype),
        order=lambda x, axis: jnp.argsort(x, axis, stable=True),
        along=jnp.take_along_axis,
    )
