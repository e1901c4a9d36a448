"""Convolutions. Images are `[examples, channels, height, width]`, kernels `[out, in, …]`."""

from itertools import product

from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives


def padded(xp: Primitives, x: Array, axis: int, before: int, after: int) -> Array:
    """Zeros on both sides of an axis."""

    def zeros(count: int) -> Array:
        index = tuple(slice(0, 1) if k == axis else slice(None) for k in range(x.ndim))
        return xp.concatenate([x[index] * 0] * count, axis)

    parts = ([zeros(before)] if before else []) + [x] + ([zeros(after)] if after else [])
    return xp.concatenate(parts, axis)


def convolution(
    xp: Primitives,
    x: Array,
    w: Array,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """The sum over the positions of the kernel, for any number of spatial axes."""
    axes = tuple(range(2, x.ndim))
    for axis in axes:
        x = padded(xp, x, axis, padding, padding)
    sizes = [(x.shape[a] - dilation * (w.shape[a] - 1) - 1) // stride + 1 for a in axes]
    ins, outs = x.shape[1] // groups, w.shape[0] // groups
    found = []
    for group in range(groups):
        terms = []
        for place in product(*(range(w.shape[a]) for a in axes)):
            window = tuple(
                slice(k * dilation, k * dilation + (size - 1) * stride + 1, stride)
                for k, size in zip(place, sizes, strict=True)
            )
            part = x[(slice(None), slice(group * ins, (group + 1) * ins), *window)]
            kernel = w[(slice(group * outs, (group + 1) * outs), slice(None), *place)]
            terms.append(xp.einsum("ni...,oi->no...", part, kernel))
        found.append(sum(terms[1:], terms[0]))
    return xp.concatenate(found, 1)


def transposed(xp: Primitives, x: Array, w: Array) -> Array:
    """Stride 2, kernel 3×3, no padding: zeros between the pixels, then the kernel turned around."""
    for axis in (2, 3):
        parts = []
        for k in range(x.shape[axis]):
            index = tuple(slice(k, k + 1) if a == axis else slice(None) for a in range(x.ndim))
            parts += [x[index]] + [x[index] * 0] * (k < x.shape[axis] - 1)
        x = xp.concatenate(parts, axis)
    rows = xp.stack([w[:, :, k] for k in (2, 1, 0)], 2)
    turned = xp.stack([rows[:, :, :, k] for k in (2, 1, 0)], 3)
    return convolution(xp, x, xp.permute(turned, (1, 0, 2, 3)), padding=2)


def _conv(
    name: str, torch: str, jax: str, inputs: tuple[str, str] | None = None, **geometry: int
) -> Operation:
    x, w = inputs or ("(2, 2, 5, 5)", "(3, 2, 3, 3)")
    return Operation(
        name,
        "convolution",
        {"x": f"rng.normal(size={x})", "w": f"rng.normal(size={w})"},
        lambda xp, x, w: convolution(xp, x, w, **geometry),
        torch,
        jax,
    )


OPERATIONS = [
    _conv(
        "conv1d",
        "F.conv1d(x, w)",
        "lax.conv(x, w, (1,), 'VALID')",
        ("(2, 2, 6)", "(3, 2, 3)"),
    ),
    _conv("conv2d", "F.conv2d(x, w)", "lax.conv(x, w, (1, 1), 'VALID')"),
    _conv(
        "conv2d_stride_2",
        "F.conv2d(x, w, stride=2, padding=1)",
        "lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)))",
        stride=2,
        padding=1,
    ),
    _conv(
        "conv2d_dilation_2",
        "F.conv2d(x, w, dilation=2)",
        "lax.conv_general_dilated(x, w, (1, 1), 'VALID', rhs_dilation=(2, 2))",
        dilation=2,
    ),
    _conv(
        "conv2d_groups",
        "F.conv2d(x, w, groups=2)",
        "lax.conv_general_dilated(x, w, (1, 1), 'VALID', feature_group_count=2)",
        ("(2, 4, 4, 4)", "(2, 2, 3, 3)"),
        groups=2,
    ),
    _conv(
        "conv2d_depthwise",
        "F.conv2d(x, w, groups=3, padding=1)",
        "lax.conv_general_dilated(x, w, (1, 1), ((1, 1), (1, 1)), feature_group_count=3)",
        ("(2, 3, 3, 3)", "(3, 1, 3, 3)"),
        groups=3,
        padding=1,
    ),
    _conv(
        "conv3d",
        "F.conv3d(x, w)",
        "lax.conv(x, w, (1, 1, 1), 'VALID')",
        ("(1, 2, 3, 3, 3)", "(2, 2, 2, 2, 2)"),
    ),
    Operation(
        "conv_transpose2d",
        "convolution",
        {"x": "rng.normal(size=(2, 2, 3, 3))", "w": "rng.normal(size=(2, 3, 3, 3))"},
        transposed,
        "F.conv_transpose2d(x, w, stride=2)",
        "lax.conv_general_dilated("
        "x, w[:, :, ::-1, ::-1].swapaxes(0, 1), (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2))",
    ),
]
