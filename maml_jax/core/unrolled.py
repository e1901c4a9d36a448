"""Learners that differentiate the outer objective through the inner steps (MAML and its kin)."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from maml_jax.core.checkpointing import Policy
from maml_jax.core.learner import inner_key, inner_loop, learner_of, outer_key
from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import Problem, next_of_stream, value_and_metrics
from maml_jax.core.rule import InnerRule, StepNumber
from maml_jax.errors import check_choice
from maml_jax.kernels.jax_internals import vary_like
from maml_jax.types import Data, Episode, Meta, MetaLearner, Metrics, Params, RandomKey, Scalar

OuterSteps: TypeAlias = Literal["last", "each"]


def unrolled(
    problem: Problem,
    rule: InnerRule,
    *,
    name: str,
    inner_steps: int,
    differentiate: Differentiate = "mixed",
    step_weights: Callable[[Scalar], Float[Array, " inner_steps"]] | None = None,
    outer_steps: OuterSteps = "last",
    stored_steps: int | None = None,
    last_steps: int | None = None,
    step_policy: Policy | None = None,
    gradient_norms: bool = False,
) -> MetaLearner:
    r"""The learner that takes `inner_steps` of `rule` on the support set.

    $$\min_\theta L_Q(\varphi_K), \qquad \varphi_0 = \mathrm{start}(\theta), \qquad
      \varphi_{k+1} = \mathrm{update}(\varphi_k, \nabla L_S(\varphi_k))$$

    Args:
      problem: the objectives $L_S$ and $L_Q$, by `supervised` those of a model and a loss.
      rule: what adapts and how.
      name: of the algorithm.
      inner_steps: K, at least 0.
      differentiate: how the inner gradient is differentiated.
      step_weights: `progress -> [K]`, to minimise the weighted sum of the outer objectives after
        every step instead of the last alone.
      outer_steps: `"last"`; or `"each"`: the mean of $L_{Q_k}(\varphi_k)$ for $k < K$, where $Q_k$
        is the k-th of the query set's arrays, `[K, …]`.
      stored_steps: about how many copies of the weights the meta-gradient may store; None: one for
        each step.
      last_steps: how many steps the meta-gradient goes through; None: all.
      step_policy: what is stored within a step, one of `jax.checkpoint_policies`.
      gradient_norms: whether `metrics` has `meta_gradient_norm`, `[K]`, the norm of the outer
        objective's derivative in $\varphi_k$.
    """
    check_choice("outer_steps", outer_steps, get_args(OuterSteps))
    outer = problem.outer
    loop = inner_loop(
        problem,
        rule,
        inner_steps,
        differentiate,
        stored_steps=stored_steps,
        last_steps=last_steps,
        step_policy=step_policy,
    )

    def after_last_step(
        meta: Meta, probes: Any, episode: Episode, progress: Scalar, key: RandomKey | None
    ) -> tuple[Scalar, Metrics]:
        within, after = inner_key(key), outer_key(key, loop.inner_steps)
        fast = loop(meta, episode.support, None, progress, within, probes=probes).last
        return value_and_metrics(outer, fast, meta, episode.query, after)

    def after_every_step(
        meta: Meta, probes: Any, episode: Episode, progress: Scalar, key: RandomKey | None
    ) -> tuple[Scalar, Metrics]:
        shares = step_weights(progress)  # type: ignore[misc]  # not None where this is called

        def weighted(before: Params, after: Params, step: StepNumber) -> tuple[Scalar, Metrics]:
            del before
            of_step = outer_key(key, step + 1)
            share = shares[step].astype(jnp.result_type(*jax.tree.leaves(after)))

            def value(params: Params, query: Data) -> tuple[Scalar, Metrics]:
                return value_and_metrics(outer, params, meta, query, of_step)

            # A step of weight 0 computes nothing, and `checkpoint` stores nothing but the weights.
            computed = jax.checkpoint(value)
            absent = _zeros_like(jax.eval_shape(value, after, episode.query))
            absent = vary_like(absent, (after, episode.query))
            found, metrics = lax.cond(share > 0, computed, lambda *_: absent, after, episode.query)
            return share * found, metrics

        within = inner_key(key)
        adapted = loop(meta, episode.support, None, progress, within, weighted, probes)
        values, metrics = adapted.step_outputs
        return values.sum(), jax.tree.map(lambda leaf: leaf[-1], metrics)

    def before_each_step(
        meta: Meta, probes: Any, episode: Episode, progress: Scalar, key: RandomKey | None
    ) -> tuple[Scalar, Metrics]:
        def value(before: Params, after: Params, step: StepNumber) -> tuple[Scalar, Metrics]:
            del after
            query = next_of_stream(episode.query, step, loop.inner_steps, "query")
            return value_and_metrics(outer, before, meta, query, outer_key(key, step))

        within, stored = inner_key(key), jax.checkpoint(value)
        adapted = loop(meta, episode.support, None, progress, within, stored, probes)
        return jax.tree.map(lambda leaf: leaf.mean(0), adapted.step_outputs)

    meta_loss = after_last_step if step_weights is None else after_every_step
    meta_loss = meta_loss if outer_steps == "last" else before_each_step

    def value_and_grad(
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        probes = None
        if gradient_norms:
            dtype = jnp.result_type(*jax.tree.leaves(meta))
            probes = vary_like(jnp.zeros(loop.inner_steps, dtype), episode)
        (value, metrics), (grads, norms) = jax.value_and_grad(meta_loss, (0, 1), has_aux=True)(
            meta, probes, episode, jnp.asarray(progress), key
        )
        metrics = {"loss": value, **metrics}
        if gradient_norms:
            metrics["meta_gradient_norm"] = norms
        return (value, metrics), grads

    return learner_of(loop, problem, value_and_grad, name)


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
