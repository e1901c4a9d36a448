"""Learners whose meta-gradient is how far the inner steps moved the weights (Reptile)."""

import jax
import jax.numpy as jnp

from maml_jax.core.learner import inner_key, inner_loop, learner_of, outer_key
from maml_jax.core.objectives import Problem, value_and_metrics
from maml_jax.core.rule import InnerRule
from maml_jax.types import Episode, Meta, MetaLearner, Metrics, RandomKey, Scalar


def displaced(problem: Problem, rule: InnerRule, *, name: str, inner_steps: int) -> MetaLearner:
    r"""The learner whose meta-gradient is $\theta - \varphi_K$.

    Args:
      problem: the objectives; the outer one serves the metrics alone.
      rule: what adapts and how; its meta-parameters must be the weights.
      name: of the algorithm.
      inner_steps: K, at least 0.
    """
    loop = inner_loop(problem, rule, inner_steps, "first_order")

    def value_and_grad(
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        fast = loop(meta, episode.support, None, progress, inner_key(key)).last
        after = outer_key(key, loop.inner_steps)
        value, metrics = value_and_metrics(problem.outer, fast, meta, episode.query, after)
        grads = jax.tree.map(jnp.subtract, meta, fast)
        return (value, {"loss": value, **metrics}), grads

    return learner_of(loop, problem, value_and_grad, name)
