"""Pooling and resizing. Images are `[examples, channels, height, width]`."""

import numpy as np

from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_IMAGES = {"x": "rng.normal(size=(2, 2, 4, 4))"}
_SPACED = {"x": "(rng.permutation(64).reshape(2, 2, 4, 4) - 31.7) / 16"}
_NHWC = "x.transpose(0, 2, 3, 1)"


def larger(xp: Primitives, x: Array, y: Array) -> Array:
    return xp.where(xp.real(x) > xp.real(y), x, y)


def _windows(x: Array, size: int, stride: int) -> list[Array]:
    count = (x.shape[2] - size) // stride + 1
    reach = (count - 1) * stride + 1
    return [
        x[:, :, i : i + reach : stride, j : j + reach : stride]
        for i in range(size)
        for j in range(size)
    ]


def max_pool(xp: Primitives, x: Array, size: int = 2, stride: int = 2) -> Array:
    first, *others = _windows(x, size, stride)
    for other in others:
        first = larger(xp, first, other)
    return first


def avg_pool(xp: Primitives, x: Array) -> Array:
    return sum(_windows(x, 2, 2)) / 4


def lp_pool(xp: Primitives, x: Array) -> Array:
    """The root of the sum of squares."""
    return xp.sqrt(sum(part * part for part in _windows(x, 2, 2)))


def doubled(size: int) -> np.ndarray:
    """The matrix of linear interpolation to twice the size, edges repeated."""
    matrix = np.zeros((2 * size, size))
    for k in range(2 * size):
        place = min(max((k + 0.5) / 2 - 0.5, 0), size - 1)
        low = min(int(place), size - 2)
        matrix[k, low], matrix[k, low + 1] = 1 - (place - low), place - low
    return matrix


def bilinear(xp: Primitives, x: Array) -> Array:
    matrix = xp.constant(doubled(x.shape[2]), x)
    return xp.einsum("ri,ncij,sj->ncrs", matrix, x, matrix)


OPERATIONS = [
    Operation(
        "max_pool",
        "pooling",
        _SPACED,
        max_pool,
        "F.max_pool2d(x, 2)",
        f"linen.max_pool({_NHWC}, (2, 2), (2, 2)).transpose(0, 3, 1, 2)",
        f"mj_layers.max_pool({_NHWC}).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "max_pool_overlapping",
        "pooling",
        _SPACED,
        lambda xp, x: max_pool(xp, x, 3, 1),
        "F.max_pool2d(x, 3, 1)",
        f"linen.max_pool({_NHWC}, (3, 3)).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "avg_pool",
        "pooling",
        _IMAGES,
        avg_pool,
        "F.avg_pool2d(x, 2)",
        f"linen.avg_pool({_NHWC}, (2, 2), (2, 2)).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "global_avg_pool",
        "pooling",
        _IMAGES,
        lambda xp, x: xp.sum(x, (2, 3)) / 16,
        "F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]",
        "x.mean((2, 3))",
    ),
    Operation("lp_pool", "pooling", _IMAGES, lp_pool, "F.lp_pool2d(x, 2, 2)"),
    Operation(
        "resize_bilinear",
        "pooling",
        {"x": "rng.normal(size=(2, 1, 3, 3))"},
        bilinear,
        "F.interpolate(x, scale_factor=2.0, mode='bilinear')",
        "jax.image.resize(x, (2, 1, 6, 6), 'bilinear')",
    ),
]
