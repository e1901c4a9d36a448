"""Learners from an inner loop, by how the meta-gradient is estimated.

- `unrolled`: the derivative of the query loss through the inner steps (MAML and its kin).
- `displaced`: how far the inner steps moved the weights (Reptile).
- `implicit`: the derivative of a minimum, whichever way it was reached (iMAML).
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jax import lax

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.rule import Adapts, Part
from maml_jax.core.solvers import conjugate_gradients, neumann
from maml_jax.errors import InputError, check_choice, check_count, check_number
from maml_jax.inner import InnerLoop, InnerRule, proximal
from maml_jax.losses import accuracy, is_classification, softmax_cross_entropy
from maml_jax.types import Apply, Batch, Episode, Loss, MetaLearner, Metrics

Solver: TypeAlias = Literal["cg", "neumann"]


def inner_optimizer_from(
    inner_lr: float | None, inner_optimizer: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    """Plain gradient descent at `inner_lr`, or `inner_optimizer`, whichever is given."""
    if inner_optimizer is not None and inner_lr is None:
        return inner_optimizer
    if inner_optimizer is None and inner_lr is not None:
        return optax.sgd(check_number("inner_lr", inner_lr))
    raise InputError(
        f"`inner_lr` was {inner_lr} and `inner_optimizer` {inner_optimizer}; pass exactly one."
    )


def unrolled(
    apply: Apply,
    rule: InnerRule,
    *,
    inner_steps: int,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
    step_weights: Callable[[jax.Array], jax.Array] | None = None,
) -> MetaLearner:
    r"""The learner that takes `inner_steps` of `rule` on the support set.

    $$\min_\theta L_Q(\varphi_K), \qquad \varphi_0 = \mathrm{start}(\theta), \qquad
      \varphi_{k+1} = \mathrm{update}(\varphi_k, \nabla L_S(\varphi_k))$$

    Args:
      apply: the model.
      rule: what adapts and how.
      inner_steps: K, at least 0.
      loss: of the support set, and of the query set where `query_loss` is None.
      query_loss: the meta-objective.
      differentiate: how the inner gradient is differentiated.
      batch_size: examples of a step; None: the whole support set in each.
      step_weights: `progress -> [K]`, to minimise the weighted sum of the query losses after every
        step instead of the last alone.
    """
    loop = _loop(apply, rule, inner_steps, loss, differentiate, batch_size)
    objective = query_loss or loss

    def judge(params, query):
        outputs = apply(params, query.x)
        return objective(outputs, query.y), outputs

    def last(meta, episode: Episode, progress):
        return judge(loop(meta, episode.support, progress=progress).last, episode.query)

    def every(meta, episode: Episode, progress):
        shares = step_weights(progress)  # type: ignore[misc]  # not None where this is called

        def look(params, step):
            share = shares[step].astype(jnp.result_type(*jax.tree.leaves(params)))
            # Nothing is computed where nothing counts, and nothing but the weights is stored.
            computed = jax.checkpoint(judge)
            absent = _zeros_like(jax.eval_shape(judge, params, episode.query))
            value, outputs = lax.cond(share > 0, computed, lambda *_: absent, params, episode.query)
            return share * value, outputs

        values, outputs = loop(meta, episode.support, progress=progress, look=look).seen
        return values.sum(), outputs[-1]

    meta_loss = last if step_weights is None else every

    def value_and_grad(meta, episode, progress=1.0):
        (value, outputs), grads = jax.value_and_grad(meta_loss, has_aux=True)(
            meta, episode, jnp.asarray(progress)
        )
        return (value, _metrics(value, outputs, episode.query)), grads

    return _learner(loop, value_and_grad)


def displaced(
    apply: Apply,
    rule: InnerRule,
    *,
    inner_steps: int,
    loss: Loss = softmax_cross_entropy,
    batch_size: int | None = None,
) -> MetaLearner:
    r"""The learner whose meta-gradient is $\theta - \varphi_K$.

    `rule` is one whose meta-parameters are the weights. The query set serves the metrics alone.
    """
    loop = _loop(apply, rule, inner_steps, loss, "first_order", batch_size)

    def value_and_grad(meta, episode, progress=1.0):
        fast = loop(meta, episode.support, progress=progress).last
        outputs = apply(fast, episode.query.x)
        value = loss(outputs, episode.query.y)
        grads = jax.tree.map(jnp.subtract, meta, fast)
        return (value, _metrics(value, outputs, episode.query)), grads

    return _learner(loop, value_and_grad)


def implicit(
    apply: Apply,
    rule: InnerRule,
    *,
    strength: float,
    solver: Solver,
    solver_steps: int,
    damping: float,
    neumann_rate: float,
    inner_steps: int,
    adapts: Adapts | None = None,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
) -> MetaLearner:
    r"""The learner that differentiates the minimum $\varphi^*$ itself.

    With $\varphi^* = \arg\min_\varphi L_S(\varphi) + \tfrac\lambda2\lVert\varphi-\theta\rVert^2$,

    $$\left(I + \tfrac1\lambda \nabla^2 L_S(\varphi^*)\right) v = \nabla L_Q(\varphi^*)$$

    gives the meta-gradient $v$ of the weights that adapt; a weight ψ that does not has
    $\partial_\psi L_Q - \tfrac1\lambda\,v^\top\partial_\psi\nabla_\varphi L_S$. The metrics tell
    `solver_residual`, the norm of what is left of the equation over that of its right side.

    Args:
      apply: the model.
      rule: the steps towards φ*, one whose meta-parameters are the weights; it need not know λ.
      strength: λ, above 0.
      solver: `"cg"`, conjugate gradients, as far as the matrix is positive along them; or
        `"neumann"`, v ← v + η(b − Av).
      solver_steps: how many of them, at least 1.
      damping: added to the matrix as a multiple of the identity, for Hessians that are not
        positive.
      neumann_rate: η; 1 is the Neumann series, which converges where λ is above every eigenvalue.
      inner_steps: steps towards φ*.
      adapts: that of `rule`.
      loss: of the support set, and of the query set where `query_loss` is None.
      query_loss: the meta-objective.
    """
    if not strength > 0:
        raise InputError(f"`regularization` was {strength}; it must be above 0.")
    check_choice("solver", solver, get_args(Solver))
    check_count("solver_steps", solver_steps)
    check_number("damping", damping)
    if not neumann_rate > 0:
        raise InputError(f"`neumann_rate` was {neumann_rate}; it must be above 0.")
    held = proximal(rule, strength, adapts)
    loop = _loop(apply, held, inner_steps, loss, "first_order", None)
    objective = query_loss or loss

    def solve(matrix, b):
        if solver == "neumann":
            return neumann(matrix, b, solver_steps, neumann_rate)
        flat = jax.tree.map(lambda leaf: leaf / (1 + damping), b)  # the solution without curvature
        return conjugate_gradients(matrix, b, solver_steps, otherwise=flat)

    def value_and_grad(meta, episode, progress=1.0):
        fast, frozen, *_ = loop(meta, episode.support, progress=progress)
        start = jnp.zeros((), jnp.int32)

        def query(fast, frozen):
            outputs = apply(held.weights(fast, frozen, start), episode.query.x)
            return objective(outputs, episode.query.y), outputs

        (value, outputs), (b, direct) = jax.value_and_grad(query, (0, 1), has_aux=True)(
            fast, frozen
        )

        def support(fast, frozen):
            return loop.support_loss(fast, (frozen, episode.support, start))

        both = jax.grad(support, (0, 1))

        def products(v):
            """The products of v with the Hessian and with the mixed second derivative."""
            return jax.jvp(lambda fast: both(fast, frozen), (fast,), (v,))[1]

        def matrix(v):
            curved, _ = products(v)
            return jax.tree.map(lambda v, hv: (1 + damping) * v + hv / strength, v, curved)

        v = solve(matrix, b)
        left = jax.tree.map(jnp.subtract, b, matrix(v))
        crossed = jax.tree.map(lambda d, c: d - c / strength, direct, products(v)[1])
        metrics = _metrics(value, outputs, episode.query)
        size = optax.tree.norm(b)
        metrics["solver_residual"] = optax.tree.norm(left) / jnp.where(size > 0, size, 1)
        return (value, metrics), Part(adapts).join(v, crossed)

    return _learner(loop, value_and_grad)


def _loop(
    apply: Apply,
    rule: InnerRule,
    inner_steps: int,
    loss: Loss,
    differentiate: Differentiate,
    batch_size: int | None,
) -> InnerLoop:
    check_count("inner_steps", inner_steps, least=0)
    check_choice("differentiate", differentiate, get_args(Differentiate))
    if batch_size is not None:
        check_count("batch_size", batch_size)
    return InnerLoop(apply, rule, inner_steps, loss, differentiate, batch_size)


def _learner(loop: InnerLoop, value_and_grad: Callable) -> MetaLearner:
    def adapt(meta, support, steps=None):
        return loop(meta, support, steps).last

    def trajectory(meta, support, steps=None):
        adapted = loop(meta, support, steps, look=lambda params, step: params)
        return jax.tree.map(
            lambda first, later: jnp.concatenate([first[None], later]), adapted.first, adapted.seen
        )

    return MetaLearner(loop.rule.init, adapt, trajectory, loop.apply, value_and_grad, loop.loss)


def _metrics(value: jax.Array, outputs: jax.Array, query: Batch) -> Metrics:
    metrics = {"loss": value}
    if is_classification(outputs, query.y):
        metrics["accuracy"] = accuracy(outputs, query.y)
    return metrics


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
