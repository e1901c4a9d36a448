"""Learners whose meta-gradient is how far the inner steps moved the weights (Reptile)."""

import jax
import jax.numpy as jnp

from maml_jax.core.checks import checked_loss
from maml_jax.core.learner import inner_loop, learner_of, metrics_of
from maml_jax.core.rule import InnerRule
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Episode, Loss, Meta, MetaLearner, Metrics, Scalar


def displaced(
    apply: Apply,
    rule: InnerRule,
    *,
    name: str,
    inner_steps: int,
    loss: Loss = softmax_cross_entropy,
    batch_size: int | None = None,
) -> MetaLearner:
    r"""The learner whose meta-gradient is $\theta - \varphi_K$.

    Args:
      apply: the model.
      rule: what adapts and how; its meta-parameters must be the weights.
      name: of the algorithm.
      inner_steps: K, at least 0.
      loss: of the support set. The query set serves the metrics alone.
      batch_size: examples of a step; None: the whole support set in each.
    """
    loop = inner_loop(apply, rule, inner_steps, loss, "first_order", batch_size)

    def value_and_grad(
        meta: Meta, episode: Episode, progress: float | Scalar = 1.0
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        fast = loop(meta, episode.support, progress=progress).last
        outputs = apply(fast, episode.query.x)
        value = checked_loss(loss)(outputs, episode.query.y)
        grads = jax.tree.map(jnp.subtract, meta, fast)
        return (value, metrics_of(value, outputs, episode.query)), grads

    return learner_of(loop, value_and_grad, name)
