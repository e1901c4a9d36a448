"""Normalisations. Images are `[examples, channels, height, width]`."""

from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

EPSILON = 1e-5
_IMAGES = {
    "x": "rng.normal(size=(3, 2, 2, 2))",
    "w": "rng.normal(size=2)",
    "b": "rng.normal(size=2)",
}
_GROUPED = {
    "x": "rng.normal(size=(2, 4, 2, 2))",
    "w": "rng.normal(size=4)",
    "b": "rng.normal(size=4)",
}
_ROWS = {"x": "rng.normal(size=(3, 5))", "w": "rng.normal(size=5)", "b": "rng.normal(size=5)"}
_LAST = "x.transpose(0, 2, 3, 1)"
_FLAX = ".apply({'params': {'scale': w, 'bias': b}}"


def standardised(xp: Primitives, x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """(x − mean) / √(variance + ε) over the axes."""
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    centred = x - xp.sum(x, axes, True) / count
    return centred / xp.sqrt(xp.sum(centred * centred, axes, True) / count + epsilon)


def by_channel(values: Array) -> Array:
    return values[None, :, None, None]


def batch_norm(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    return standardised(xp, x, (0, 2, 3), EPSILON) * by_channel(w) + by_channel(b)


def batch_norm_rows(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    return standardised(xp, x, (0,), EPSILON) * w + b


def batch_norm_fixed(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    """In evaluation mode, with the statistics 0.5 and 2."""
    return (x - 0.5) / xp.sqrt(x * 0 + 2 + EPSILON) * by_channel(w) + by_channel(b)


def layer_norm(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    return standardised(xp, x, (1,), EPSILON) * w + b


def group_norm(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    """Two groups."""
    n, channels, height, width = x.shape
    groups = standardised(xp, x.reshape(n, 2, -1), (2,), EPSILON)
    return groups.reshape(n, channels, height, width) * by_channel(w) + by_channel(b)


def instance_norm(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    return standardised(xp, x, (2, 3), EPSILON) * by_channel(w) + by_channel(b)


def rms_norm(xp: Primitives, x: Array, w: Array) -> Array:
    return x / xp.sqrt(xp.sum(x * x, 1, True) / x.shape[1] + EPSILON) * w


def unit_norm(xp: Primitives, x: Array) -> Array:
    return x / xp.sqrt(xp.sum(x * x, 1, True))


def weight_norm(xp: Primitives, v: Array, g: Array) -> Array:
    return g * v / xp.sqrt(xp.sum(v * v, (1,), True))


def response_norm(xp: Primitives, x: Array) -> Array:
    """Over windows of three channels, with α = 1, β = ¾ and k = 2, by their mean."""
    zero = x[:, :1] * 0
    squares = xp.concatenate((zero, x * x, zero), 1)
    channels = x.shape[1]
    windows = sum(squares[:, k : k + channels] for k in range(3))
    return x * xp.exp(-0.75 * xp.log(2 + windows / 3))


OPERATIONS = [
    Operation(
        "batch_norm",
        "norm",
        _IMAGES,
        batch_norm,
        "F.batch_norm(x, None, None, w, b, training=True)",
        f"linen.BatchNorm(use_running_average=False, epsilon=1e-5){_FLAX}, "
        f"{_LAST}, mutable=['batch_stats'])[0].transpose(0, 3, 1, 2)",
        f"mj_layers.normalise({_LAST}, w, b, epsilon=1e-5).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "batch_norm_rows",
        "norm",
        {"x": "rng.normal(size=(4, 3))", "w": "rng.normal(size=3)", "b": "rng.normal(size=3)"},
        batch_norm_rows,
        "F.batch_norm(x, None, None, w, b, training=True)",
        "jax.nn.standardize(x, axis=0, epsilon=1e-5) * w + b",
        "mj_layers.normalise(x, w, b, epsilon=1e-5)",
    ),
    Operation(
        "batch_norm_fixed",
        "norm",
        _IMAGES,
        batch_norm_fixed,
        "F.batch_norm(x, torch.full((2,), 0.5), torch.full((2,), 2.0), w, b)",
        "linen.BatchNorm(use_running_average=True, epsilon=1e-5).apply({'params': "
        "{'scale': w, 'bias': b}, 'batch_stats': {'mean': jnp.full(2, 0.5), 'var': "
        f"jnp.full(2, 2.0)}}}}, {_LAST}).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "layer_norm",
        "norm",
        _ROWS,
        layer_norm,
        "F.layer_norm(x, (5,), w, b)",
        f"linen.LayerNorm(epsilon=1e-5){_FLAX}, x)",
    ),
    Operation(
        "group_norm",
        "norm",
        _GROUPED,
        group_norm,
        "F.group_norm(x, 2, w, b)",
        f"linen.GroupNorm(2, epsilon=1e-5){_FLAX}, {_LAST}).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "instance_norm",
        "norm",
        _IMAGES,
        instance_norm,
        "F.instance_norm(x, weight=w, bias=b)",
        f"linen.InstanceNorm(epsilon=1e-5){_FLAX}, {_LAST}).transpose(0, 3, 1, 2)",
    ),
    Operation(
        "rms_norm",
        "norm",
        {name: _ROWS[name] for name in ("x", "w")},
        rms_norm,
        "F.rms_norm(x, (5,), w, 1e-5)",
        "linen.RMSNorm(epsilon=1e-5).apply({'params': {'scale': w}}, x)",
    ),
    Operation(
        "unit_norm",
        "norm",
        {"x": "rng.normal(size=(3, 4))"},
        unit_norm,
        "F.normalize(x)",
        "x / jnp.linalg.norm(x, axis=1, keepdims=True)",
    ),
    Operation(
        "weight_norm",
        "norm",
        {"v": "rng.normal(size=(3, 4))", "g": "rng.normal(size=(3, 1))"},
        weight_norm,
        "torch._weight_norm(v, g)",
        "g * v / jnp.linalg.norm(v, axis=1, keepdims=True)",
    ),
    Operation(
        "response_norm",
        "norm",
        {"x": "rng.normal(size=(2, 4, 3))"},
        response_norm,
        "F.local_response_norm(x, 3, alpha=1.0, beta=0.75, k=2.0)",
    ),
]
