"""Softmax and losses."""

import numpy as np

from parity.audit.operations.activations import above, softplus
from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_LOGITS = {"x": "rng.normal(size=(4, 3))"}
_PAIR = {"x": "rng.normal(size=(3, 4))", "y": "rng.normal(size=(3, 4))"}
_FAR = {"x": "(rng.permutation(12).reshape(3, 4) - 5.7) / 3"}
_LABELS = np.eye(3)[[0, 2, 1, 1]]
_TORCH_LABELS = "torch.tensor([0, 2, 1, 1])"
_JAX_LABELS = "jnp.array([0, 2, 1, 1])"
_OPTAX = "optax.softmax_cross_entropy_with_integer_labels(x, jnp.array([0, 2, 1, 1]))"


def log_softmax(xp: Primitives, x: Array) -> Array:
    """The largest of each row is taken away first, so that nothing overflows."""
    largest = xp.along(x, xp.order(x, 1)[:, -1:], 1)
    shifted = x - largest
    return shifted - xp.log(xp.sum(xp.exp(shifted), 1, True))


def softmax(xp: Primitives, x: Array) -> Array:
    return xp.exp(log_softmax(xp, x))


def cross_entropy(xp: Primitives, x: Array, targets: np.ndarray = _LABELS) -> Array:
    """The mean over the rows of −Σ targets · log softmax; targets may hold weights."""
    rows = float(np.sum(targets))
    return -xp.sum(xp.constant(targets, x) * log_softmax(xp, x)) / rows


def huber(xp: Primitives, x: Array, y: Array) -> Array:
    """With δ = 1, the mean."""
    d = x - y
    size = above(xp, d, 0, d, -d)
    return xp.sum(above(xp, size, 1, size - 0.5, d * d / 2)) / 12


def cosine(xp: Primitives, x: Array, y: Array) -> Array:
    norms = xp.sqrt(xp.sum(x * x, 1)) * xp.sqrt(xp.sum(y * y, 1))
    return xp.sum(x * y, 1) / norms


def divergence(xp: Primitives, x: Array, y: Array) -> Array:
    """KL(softmax(y) ‖ softmax(x)), summed."""
    log_p, log_q = log_softmax(xp, y), log_softmax(xp, x)
    return xp.sum(xp.exp(log_p) * (log_p - log_q))


def binary(xp: Primitives, x: Array) -> Array:
    """Logits against 0, 1, 0, 1, …, the mean."""
    targets = xp.constant(np.arange(12).reshape(3, 4) % 2, x)
    return xp.sum(softplus(xp, x) - targets * x) / 12


def gaussian(xp: Primitives, x: Array, y: Array) -> Array:
    """Against 0, with the variance exp(y), the mean of ½(log variance + x²/variance)."""
    return xp.sum(y + x * x * xp.exp(-y)) / 24


def triplet(xp: Primitives, x: Array, y: Array, z: Array) -> Array:
    """Σ max(‖x − y‖ − ‖x − z‖ + 8, 0), away from the kink; PyTorch adds 1e-6 to each difference."""

    def distance(a: Array, b: Array) -> Array:
        d = a - b + 1e-6
        return xp.sqrt(xp.sum(d * d, 1))

    margins = distance(x, y) - distance(x, z) + 8
    return xp.sum(above(xp, margins, 0, margins, margins * 0))


_SMOOTHED = _LABELS * 0.75 + 0.25 / 3
_MASKED = _LABELS * np.array([1, 0, 1, 1])[:, None]
_WEIGHTED = _LABELS * np.array([0.5, 1, 2])
_SOFT = np.array([[0.5, 0.25, 0.25], [0, 0.5, 0.5], [1, 0, 0], [0.25, 0.5, 0.25]])
_SOFT_TEXT = "[[0.5, 0.25, 0.25], [0, 0.5, 0.5], [1, 0, 0], [0.25, 0.5, 0.25]]"

OPERATIONS = [
    Operation("softmax", "softmax", _LOGITS, softmax, "F.softmax(x, 1)", "jax.nn.softmax(x, 1)"),
    Operation(
        "log_softmax",
        "softmax",
        _LOGITS,
        log_softmax,
        "F.log_softmax(x, 1)",
        "jax.nn.log_softmax(x, 1)",
    ),
    Operation(
        "logsumexp",
        "softmax",
        _LOGITS,
        lambda xp, x: x[:, 0] - log_softmax(xp, x)[:, 0],
        "torch.logsumexp(x, 1)",
        "jax.nn.logsumexp(x, 1)",
    ),
    Operation(
        "cross_entropy",
        "loss",
        _LOGITS,
        cross_entropy,
        f"F.cross_entropy(x, {_TORCH_LABELS})",
        f"{_OPTAX}.mean()",
        f"mj.losses.softmax_cross_entropy(x, {_JAX_LABELS})",
    ),
    Operation(
        "cross_entropy_weights",
        "loss",
        _LOGITS,
        lambda xp, x: cross_entropy(xp, x, _WEIGHTED),
        f"F.cross_entropy(x, {_TORCH_LABELS}, torch.tensor([0.5, 1.0, 2.0]))",
        f"({_OPTAX} * jnp.array([0.5, 2, 1, 1])).sum() / 4.5",
    ),
    Operation(
        "cross_entropy_mask",
        "loss",
        _LOGITS,
        lambda xp, x: cross_entropy(xp, x, _MASKED),
        "F.cross_entropy(x, torch.tensor([0, -100, 1, 1]))",
        f"jnp.mean({_OPTAX}, where=jnp.array([True, False, True, True]))",
    ),
    Operation(
        "cross_entropy_smoothing",
        "loss",
        _LOGITS,
        lambda xp, x: cross_entropy(xp, x, _SMOOTHED),
        f"F.cross_entropy(x, {_TORCH_LABELS}, label_smoothing=0.25)",
        f"optax.softmax_cross_entropy(x, optax.smooth_labels(jnp.eye(3)[{_JAX_LABELS}], "
        "0.25)).mean()",
    ),
    Operation(
        "cross_entropy_soft",
        "loss",
        _LOGITS,
        lambda xp, x: cross_entropy(xp, x, _SOFT),
        f"F.cross_entropy(x, torch.tensor({_SOFT_TEXT}))",
        f"optax.softmax_cross_entropy(x, jnp.array({_SOFT_TEXT})).mean()",
    ),
    Operation(
        "nll_loss",
        "loss",
        _LOGITS,
        cross_entropy,
        f"F.nll_loss(torch.log_softmax(x, 1), {_TORCH_LABELS})",
        f"-jnp.take_along_axis(jax.nn.log_softmax(x), {_JAX_LABELS}[:, None], 1).mean()",
    ),
    Operation(
        "binary_cross_entropy",
        "loss",
        _FAR,
        binary,
        "F.binary_cross_entropy_with_logits(x, torch.arange(12.0).reshape(3, 4) % 2)",
        "optax.sigmoid_binary_cross_entropy(x, jnp.arange(12.0).reshape(3, 4) % 2).mean()",
    ),
    Operation(
        "mse_loss",
        "loss",
        _PAIR,
        lambda xp, x, y: xp.sum((x - y) * (x - y)) / 12,
        "F.mse_loss(x, y)",
        "optax.squared_error(x, y).mean()",
        "mj.losses.mean_squared_error(x, y)",
    ),
    Operation(
        "huber_loss",
        "loss",
        _FAR | {"y": "rng.integers(0, 1, (3, 4)) + 0.0"},
        huber,
        "F.huber_loss(x, y)",
        "optax.huber_loss(x, y).mean()",
    ),
    Operation(
        "smooth_l1_loss",
        "loss",
        _FAR | {"y": "rng.integers(0, 1, (3, 4)) + 0.0"},
        huber,
        "F.smooth_l1_loss(x, y)",
    ),
    Operation(
        "kl_div",
        "loss",
        {"x": "rng.normal(size=(3, 4))", "y": "rng.normal(size=(3, 4))"},
        divergence,
        "F.kl_div(x.log_softmax(1), y.log_softmax(1), reduction='sum', log_target=True)",
        "optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(x), "
        "jax.nn.log_softmax(y)).sum()",
    ),
    Operation(
        "cosine_similarity",
        "loss",
        _PAIR,
        cosine,
        "F.cosine_similarity(x, y)",
        "optax.cosine_similarity(x, y)",
    ),
    Operation(
        "gaussian_nll_loss",
        "loss",
        _PAIR,
        gaussian,
        "F.gaussian_nll_loss(x, torch.zeros(3, 4), torch.exp(y))",
    ),
    Operation(
        "triplet_margin_loss",
        "loss",
        _PAIR | {"z": "rng.normal(size=(3, 4))"},
        triplet,
        "F.triplet_margin_loss(x, y, z, margin=8.0, reduction='sum')",
        scaled=False,
    ),
]
