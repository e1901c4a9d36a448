"""Learners that differentiate the query loss through the inner steps (MAML and its kin)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from maml_jax.core.checks import checked_loss
from maml_jax.core.learner import inner_loop, learner_of, metrics_of
from maml_jax.core.metagrad import Differentiate
from maml_jax.core.rule import InnerRule, StepNumber
from maml_jax.kernels.jax_internals import vary_like
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import (
    Apply,
    Batch,
    Episode,
    Examples,
    Loss,
    Meta,
    MetaLearner,
    Metrics,
    Params,
    Scalar,
)


def unrolled(
    apply: Apply,
    rule: InnerRule,
    *,
    name: str,
    inner_steps: int,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
    step_weights: Callable[[Scalar], Float[Array, " inner_steps"]] | None = None,
) -> MetaLearner:
    r"""The learner that takes `inner_steps` of `rule` on the support set.

    $$\min_\theta L_Q(\varphi_K), \qquad \varphi_0 = \mathrm{start}(\theta), \qquad
      \varphi_{k+1} = \mathrm{update}(\varphi_k, \nabla L_S(\varphi_k))$$

    Args:
      apply: the model.
      rule: what adapts and how.
      name: of the algorithm.
      inner_steps: K, at least 0.
      loss: of the support set, and of the query set where `query_loss` is None.
      query_loss: the meta-objective.
      differentiate: how the inner gradient is differentiated.
      batch_size: examples of a step; None: the whole support set in each.
      step_weights: `progress -> [K]`, to minimise the weighted sum of the query losses after every
        step instead of the last alone.
    """
    loop = inner_loop(apply, rule, inner_steps, loss, differentiate, batch_size)
    objective = loss if query_loss is None else query_loss

    def loss_and_outputs(params: Params, query: Batch) -> tuple[Scalar, Examples]:
        outputs = apply(params, query.x)
        return checked_loss(objective)(outputs, query.y), outputs

    def after_last_step(meta: Meta, episode: Episode, progress: Scalar) -> tuple[Scalar, Examples]:
        fast = loop(meta, episode.support, progress=progress).last
        return loss_and_outputs(fast, episode.query)

    def after_every_step(meta: Meta, episode: Episode, progress: Scalar) -> tuple[Scalar, Examples]:
        shares = step_weights(progress)  # type: ignore[misc]  # not None where this is called

        def weighted(params: Params, step: StepNumber) -> tuple[Scalar, Examples]:
            share = shares[step].astype(jnp.result_type(*jax.tree.leaves(params)))
            # A step of weight 0 computes nothing, and `checkpoint` stores nothing but the weights.
            computed = jax.checkpoint(loss_and_outputs)
            absent = _zeros_like(jax.eval_shape(loss_and_outputs, params, episode.query))
            absent = vary_like(absent, (params, episode.query))
            value, outputs = lax.cond(share > 0, computed, lambda *_: absent, params, episode.query)
            return share * value, outputs

        adapted = loop(meta, episode.support, progress=progress, step_callback=weighted)
        values, outputs = adapted.step_outputs
        return values.sum(), jax.tree.map(lambda leaf: leaf[-1], outputs)

    meta_loss = after_last_step if step_weights is None else after_every_step

    def value_and_grad(
        meta: Meta, episode: Episode, progress: float | Scalar = 1.0
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        (value, outputs), grads = jax.value_and_grad(meta_loss, has_aux=True)(
            meta, episode, jnp.asarray(progress)
        )
        return (value, metrics_of(value, outputs, episode.query)), grads

    return learner_of(loop, value_and_grad, name, objective)


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
