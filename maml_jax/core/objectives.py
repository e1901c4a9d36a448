"""What is minimised: the inner and the outer objective, and the usual way to make them of a model.

Nothing else in `core/` knows of a model or of a loss `(outputs, y)`.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from maml_jax.core.checks import check_scalar, checked_loss, count_examples
from maml_jax.core.rule import StepNumber
from maml_jax.errors import InputError, check_count, shown
from maml_jax.losses import accuracy, is_classification, softmax_cross_entropy
from maml_jax.types import (
    Apply,
    Batch,
    Data,
    Examples,
    Loss,
    Meta,
    Metrics,
    Params,
    RandomKey,
    Scalar,
)

Changed: TypeAlias = dict[str, PyTree[Array]]
"""New values of some entries of the weights, such as running statistics."""


@runtime_checkable
class Inner(Protocol):
    """What a task is learned by."""

    def __call__(
        self, weights: Params, meta: Meta, batch: Data, key: Any, /
    ) -> Scalar | tuple[Scalar, Changed]:
        """The value at `weights`; or `(value, changed)`.

        Args:
          weights: of the network, within the task.
          meta: all meta-parameters.
          batch: what this step sees.
          key: a new one in every step; None where the caller of the learner gave none. An objective
            that draws may take no None, so its type is left open.
        """


@runtime_checkable
class Outer(Protocol):
    """What the meta-parameters are learned by."""

    def __call__(
        self, weights: Params, meta: Meta, batch: Data, key: Any, /
    ) -> Scalar | tuple[Scalar, Metrics]:
        """The value at the adapted `weights`; or `(value, metrics)`. Arguments as of `Inner`."""


@runtime_checkable
class StepBatch(Protocol):
    """What a step sees of the support set."""

    def __call__(self, support: Data, step: StepNumber, steps: int, /) -> Data:
        """The batch of this step, the first of which is 0, of so many."""


class Problem(NamedTuple):
    """An inner and an outer objective, and what else a learner of them shows."""

    inner: Inner
    outer: Outer
    step_batch: StepBatch
    apply: Apply | None = None
    """The model of `predict` and `classify`; None: there is none."""
    loss: Loss | None = None
    """The inner loss as a function of outputs; None: it is none."""
    query_loss: Loss | None = None
    """The outer one."""


def supervised(
    apply: Apply,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    batch_size: int | None = None,
) -> Problem:
    r"""$L_S(\varphi) = \ell(f_\varphi(x), y)$ on the support set, and the same on the query set.

    Args:
      apply: the model f.
      loss: ℓ, of the support set, and of the query set where `query_loss` is None.
      query_loss: of the query set.
      batch_size: examples of a step, the next ones of one fixed random order, over and over; None:
        the whole support set in each.
    """
    if batch_size is not None:
        batch_size = check_count("batch_size", batch_size)
    objective = loss if query_loss is None else query_loss

    def inner(weights: Params, meta: Meta, batch: Batch, key: RandomKey | None) -> Scalar:
        del meta, key
        return checked_loss(loss)(apply(weights, batch.x), batch.y)

    def outer(
        weights: Params, meta: Meta, batch: Batch, key: RandomKey | None
    ) -> tuple[Scalar, Metrics]:
        del meta, key
        outputs = apply(weights, batch.x)
        return checked_loss(objective)(outputs, batch.y), metrics_of(outputs, batch)

    step_batch = whole if batch_size is None else partial(_next_examples, size=batch_size)
    return Problem(inner, outer, step_batch, apply, loss, objective)


def whole(support: Data, step: StepNumber, steps: int) -> Data:
    """All of the support set in each step."""
    del step, steps
    return support


def next_of_stream(data: Data, step: StepNumber, steps: int, name: str = "support") -> Data:
    """The step's own batch, of arrays `[steps, …]`; `name` is the argument that they are."""
    shortest = min((np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)), default=())
    if not shortest or shortest[0] < steps:
        raise InputError(
            f"`{name}` was {shown(jax.tree.map(np.shape, data), 100)}, and there are {steps} "
            "steps; each array must have as many batches, on its leading axis."
        )
    return jax.tree.map(lambda leaf: leaf[step], data)


def metrics_of(outputs: Examples, query: Batch) -> Metrics:
    """The accuracy where the labels are classes."""
    classes = is_classification(outputs, query.y)
    return {"accuracy": accuracy(outputs, query.y)} if classes else {}


def value_and_metrics(
    outer: Outer, weights: Params, meta: Meta, batch: Data, key: RandomKey | None
) -> tuple[Scalar, Metrics]:
    """What `outer` returns, checked; no metrics if it has none."""
    result = _called("outer", outer, weights, meta, batch, key)
    value, metrics = _pair("outer", result, "metrics")
    if "loss" in metrics or not all(map(_is_number, metrics.values())):
        raise InputError(
            f"`outer` returned the metrics {shown(metrics, 60)}; they must be a dict of numbers by "
            "name, without 'loss', which is the value itself."
        )
    return value, metrics


def value_and_changed(
    inner: Inner, weights: Params, meta: Meta, batch: Data, key: RandomKey | None
) -> tuple[Scalar, Changed]:
    """What `inner` returns, checked; nothing changed if it says nothing."""
    result = _called("inner", inner, weights, meta, batch, key)
    value, changed = _pair("inner", result, "changed")
    if changed and not (isinstance(weights, dict) and set(changed) <= set(weights)):
        raise InputError(
            f"`inner` returned new values of {', '.join(changed)}; they must be entries of the "
            "weights, a dict."
        )
    for name, new in changed.items():
        old_shapes, shapes = (jax.tree.map(_shape_and_type, of) for of in (weights[name], new))
        if old_shapes != shapes:
            raise InputError(
                f"`inner` returned {shown(new, 60)} as the new value of {name!r}, which was "
                f"{shown(weights[name], 60)}; it must have the same shapes and types."
            )
    return value, changed


def _pair(name: str, result: Any, second: str) -> tuple[Scalar, dict[str, Any]]:
    """The value that an objective returned, and the dict beside it, if there is one."""
    value, beside = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if isinstance(value, tuple) or not isinstance(beside, dict):
        raise InputError(
            f"`{name}` returned {shown(result, 80)}; it must return a number, or "
            f"`(number, {second})` with a dict."
        )
    check_scalar(name, value)
    return value, beside


def _is_number(metric: Any) -> bool:
    return hasattr(metric, "dtype") or isinstance(metric, bool | int | float)


def _shape_and_type(leaf: Any) -> tuple[Any, ...]:
    return np.shape(leaf), jnp.result_type(leaf)


def _called(name: str, objective: Inner | Outer, *arguments: Any) -> Any:
    """What the objective returns; an `InputError` where it draws and there is no key."""
    try:
        return objective(*arguments)
    except TypeError as error:
        if arguments[-1] is None and "PRNG key" in str(error):
            raise InputError(
                f"`key` was None, and `{name}` draws from it; pass `key=jax.random.key(…)`."
            ) from error
        raise


def _next_examples(support: Batch, step: StepNumber, steps: int, *, size: int) -> Batch:
    del steps
    examples = count_examples(support)
    if size >= examples:
        return support
    order = jnp.asarray(np.random.default_rng(0).permutation(examples))
    chosen = order[(step * size + jnp.arange(size)) % examples]
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], support)
