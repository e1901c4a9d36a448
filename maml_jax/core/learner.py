"""What all learners have in common, whichever way their meta-gradient is estimated."""

from typing import get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from maml_jax.core.entry import entry_points
from maml_jax.core.loop import InnerLoop
from maml_jax.core.metagrad import Differentiate
from maml_jax.core.rule import InnerRule
from maml_jax.errors import check_choice, check_count
from maml_jax.losses import accuracy, is_classification
from maml_jax.types import (
    Apply,
    Batch,
    Examples,
    Loss,
    Meta,
    MetaLearner,
    Metrics,
    Params,
    Scalar,
    ValueAndGrad,
)


def inner_loop(
    apply: Apply,
    rule: InnerRule,
    inner_steps: int,
    loss: Loss,
    differentiate: Differentiate,
    batch_size: int | None,
) -> InnerLoop:
    """The loop, its arguments checked."""
    inner_steps = check_count("inner_steps", inner_steps, least=0)
    check_choice("differentiate", differentiate, get_args(Differentiate))
    if batch_size is not None:
        batch_size = check_count("batch_size", batch_size)
    return InnerLoop(apply, rule, inner_steps, loss, differentiate, batch_size)


def learner_of(
    loop: InnerLoop, value_and_grad: ValueAndGrad, name: str, query_loss: Loss | None = None
) -> MetaLearner:
    """The learner called `name` that adapts by `loop` and learns by `value_and_grad`."""

    def adapt(meta: Meta, support: Batch, steps: int | None = None) -> Params:
        return loop(meta, support, steps).last

    def trajectory(meta: Meta, support: Batch, steps: int | None = None) -> Params:
        adapted = loop(meta, support, steps, step_callback=lambda params, step: params)
        return jax.tree.map(
            lambda first, later: jnp.concatenate([first[None], later]),
            adapted.first,
            adapted.step_outputs,
        )

    def classify(
        meta: Meta,
        support: Batch,
        x: Examples,
        *,
        transductive: bool = False,
        steps: int | None = None,
    ) -> Examples:
        fast = loop(meta, support, steps).last
        return loop.apply(fast, x) if transductive else beside(loop.apply, fast, support.x, x)

    def start_outputs(meta: Meta, support: Batch, x: Examples) -> Examples:
        fast, frozen, _ = loop.rule.start(meta, support, jnp.ones(()))
        return loop.apply(loop.rule.weights(fast, frozen, jnp.zeros((), jnp.int32)), x)

    steps = "1 inner step" if loop.inner_steps == 1 else f"{loop.inner_steps} inner steps"
    learner = MetaLearner(
        init=loop.rule.init,
        adapt=adapt,
        trajectory=trajectory,
        predict=loop.apply,
        classify=classify,
        value_and_grad=value_and_grad,
        loss=loop.loss,
        description=f"{name}, {steps}",
    )
    exact_in_reverse = loop.differentiate == "mixed"
    return entry_points(
        learner,
        start_outputs,
        meta_keys=loop.rule.meta_keys,
        needs_classes=loop.rule.needs_classes,
        query_loss=query_loss,
        reverse_only=lambda steps: (
            exact_in_reverse and (loop.inner_steps if steps is None else steps) > 1
        ),
    )


def beside(apply: Apply, params: Params, support_x: Examples, x: Examples) -> Examples:
    """The outputs for each example of `x` by itself, in one batch with the support set.

    So batch norm over the current batch sees the support examples and this one, and the outputs do
    not depend on the other examples of `x`.
    """

    def one(example: PyTree[Array]) -> PyTree[Array]:
        together = jax.tree.map(lambda s, e: jnp.concatenate([s, e[None]]), support_x, example)
        return jax.tree.map(lambda leaf: leaf[-1], apply(params, together))

    return lax.map(one, x)


def metrics_of(value: Scalar, outputs: Examples, query: Batch) -> Metrics:
    """The loss, and the accuracy where the labels are classes."""
    metrics = {"loss": value}
    if is_classification(outputs, query.y):
        metrics["accuracy"] = accuracy(outputs, query.y)
    return metrics
