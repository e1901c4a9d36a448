"""Learners that differentiate a minimum, whichever way it was reached (iMAML)."""

from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax

from maml_jax.core.checks import checked_loss
from maml_jax.core.learner import inner_loop, learner_of, metrics_of
from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, ParamFilter
from maml_jax.core.solvers import conjugate_gradients, neumann
from maml_jax.errors import check_choice, check_count, check_number
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Episode, Examples, Loss, Meta, MetaLearner, Metrics, Scalar

Solver: TypeAlias = Literal["cg", "neumann"]


def implicit(
    apply: Apply,
    rule: InnerRule,
    *,
    name: str,
    regularization: float,
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
    $\partial_\psi L_Q - \tfrac1\lambda\,v^\top\partial_\psi\nabla_\varphi L_S$. The metric
    `solver_residual` is the norm of the equation's residual over that of its right side.

    Args:
      apply: the model.
      rule: the steps towards φ*, of the regularised loss (`inner.proximal`); its meta-parameters
        must be the weights.
      name: of the algorithm.
      regularization: λ, above 0.
      solver: `"cg"`, conjugate gradients, as far as the matrix is positive along them; or
        `"neumann"`, v ← v + η(b − Av).
      solver_steps: how many iterations, at least 1.
      damping: added to the matrix as a multiple of the identity, for Hessians that are not
        positive.
      neumann_rate: η; 1 is the Neumann series, which converges where λ is above every eigenvalue.
      inner_steps: steps towards φ*.
      adapts: that of `rule`.
      loss: of the support set, and of the query set where `query_loss` is None.
      query_loss: the meta-objective.

    Raises:
      InputError: λ or η not above 0, an unknown `solver`, no `solver_steps`, negative `damping`.
    """
    regularization = check_number("regularization", regularization, above_zero=True)
    neumann_rate = check_number("neumann_rate", neumann_rate, above_zero=True)
    check_choice("solver", solver, get_args(Solver))
    solver_steps = check_count("solver_steps", solver_steps)
    damping = check_number("damping", damping)
    loop = inner_loop(apply, rule, inner_steps, loss, "first_order", None)
    objective = loss if query_loss is None else query_loss

    def solve(matrix: Any, b: Fast) -> Fast:
        if solver == "neumann":
            return neumann(matrix, b, solver_steps, neumann_rate)
        flat = jax.tree.map(lambda leaf: leaf / (1 + damping), b)  # the solution without curvature
        return conjugate_gradients(matrix, b, solver_steps, otherwise=flat)

    def value_and_grad(
        meta: Meta, episode: Episode, progress: float | Scalar = 1.0
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        fast, frozen, *_ = loop(meta, episode.support, progress=progress)
        start = jnp.zeros((), jnp.int32)

        def query(fast: Fast, frozen: Frozen) -> tuple[Scalar, Examples]:
            outputs = apply(rule.weights(fast, frozen, start), episode.query.x)
            return checked_loss(objective)(outputs, episode.query.y), outputs

        (value, outputs), (b, direct) = jax.value_and_grad(query, (0, 1), has_aux=True)(
            fast, frozen
        )

        def support(fast: Fast, frozen: Frozen) -> Scalar:
            return loop.support_loss(fast, (frozen, episode.support, start))

        gradients = jax.grad(support, (0, 1))

        def products(v: Fast) -> tuple[Fast, Frozen]:
            """The products of v with the Hessian and with the mixed second derivative."""
            return jax.jvp(lambda fast: gradients(fast, frozen), (fast,), (v,))[1]

        def matrix(v: Fast) -> Fast:
            curved, _ = products(v)
            return jax.tree.map(lambda v, hv: (1 + damping) * v + hv / regularization, v, curved)

        v = solve(matrix, b)
        residual = jax.tree.map(jnp.subtract, b, matrix(v))
        crossed = jax.tree.map(lambda d, c: d - c / regularization, direct, products(v)[1])
        metrics = metrics_of(value, outputs, episode.query)
        size = optax.tree.norm(b)
        metrics["solver_residual"] = optax.tree.norm(residual) / jnp.where(size > 0, size, 1)
        return (value, metrics), ParamFilter(adapts).join(v, crossed)

    return learner_of(loop, value_and_grad, name, objective)
