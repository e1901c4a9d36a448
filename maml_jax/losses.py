"""Losses `(outputs, y) -> scalar`, and the accuracy that goes with the first."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer, Shaped

from maml_jax.errors import InputError
from maml_jax.types import Examples, Scalar

__all__ = ["accuracy", "is_classification", "mean_squared_error", "softmax_cross_entropy"]


def softmax_cross_entropy(
    logits: Float[Array, "examples ways"], labels: Shaped[Array, " examples"]
) -> Scalar:
    r"""Mean softmax cross-entropy, $-\frac1n\sum_i \log\mathrm{softmax}(z_i)_{y_i}$, in nats.

    A label outside of `[0, ways)` makes the loss and its gradient NaN. Where labels are known,
    which they are not under `jit`, learners refuse them instead. Labels that count from 1 are a
    likely cause: subtract 1.

    Args:
      logits: before any softmax.
      labels: integers in `[0, ways)`.

    Raises:
      InputError: labels that are not integers, or of which there is not one for each row of logits.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"`labels` were {labels.dtype}; cross-entropy takes integers. "
            "For regression pass `loss=mj.losses.mean_squared_error`."
        )
    if logits.ndim != labels.ndim + 1 or logits.shape[:-1] != labels.shape:
        raise InputError(
            f"`labels` had shape {labels.shape} and the logits {logits.shape}; there must be one "
            "label for each row of logits."
        )
    # By a factor, so that the gradient is NaN too: the loss of the support set is never seen.
    valid = (labels >= 0) & (labels < logits.shape[-1])
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (each * jnp.where(valid, 1, jnp.nan).astype(each.dtype)).mean()


def mean_squared_error(outputs: Float[Array, "..."], targets: Shaped[Array, "..."]) -> Scalar:
    r"""Mean squared error $\frac1n\sum_i (o_i-t_i)^2$ over all elements.

    Raises:
      InputError: targets of another shape than the outputs, which would be broadcast.
    """
    if outputs.shape != targets.shape:
        raise InputError(f"`targets` had shape {targets.shape}; the outputs have {outputs.shape}.")
    return jnp.square(outputs - targets).mean()


def accuracy(logits: Float[Array, "*n ways"], labels: Integer[Array, "*n"]) -> Scalar:
    """The fraction of examples whose largest logit is the label's."""
    return (logits.argmax(-1) == labels).mean(dtype=logits.dtype)


def is_classification(outputs: Examples, y: Examples) -> bool:
    """Whether `y` are class labels of `outputs`: one array of integers, with one axis less.

    With one output there is nothing to choose from; a loss of one's own may take it as a logit.
    """
    if not (hasattr(outputs, "ndim") and hasattr(y, "ndim")):
        return False
    integers = jnp.issubdtype(y.dtype, jnp.integer)
    return integers and outputs.shape[:-1] == y.shape and outputs.ndim > 0 and outputs.shape[-1] > 1
