"""Losses `(outputs, y) -> scalar`, and the accuracy that goes with the first."""

import jax
import jax.numpy as jnp
import optax

from maml_jax.errors import InputError


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    r"""Mean softmax cross-entropy, $-\frac1n\sum_i \log\mathrm{softmax}(z_i)_{y_i}$, in nats.

    Args:
      logits: `[examples, ways]`, before any softmax.
      labels: `[examples]`, integers in `[0, ways)`.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"`labels` were {labels.dtype}; cross-entropy takes integers. "
            "For regression pass `loss=mj.losses.mean_squared_error`."
        )
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def mean_squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    r"""Mean squared error $\frac1n\sum_i (o_i-t_i)^2$ over all elements."""
    if outputs.shape != targets.shape:
        raise InputError(f"`targets` had shape {targets.shape}; the outputs have {outputs.shape}.")
    return jnp.square(outputs - targets).mean()


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The fraction of examples whose largest logit is the label's."""
    return (logits.argmax(-1) == labels).mean(dtype=logits.dtype)


def is_classification(outputs: jax.Array, y: jax.Array) -> bool:
    """Whether `y` are class labels of `outputs`: integers, with one axis less."""
    return jnp.issubdtype(y.dtype, jnp.integer) and outputs.ndim == y.ndim + 1
