"""Learners that differentiate a minimum, whichever way it was reached (iMAML)."""

from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
from jax import lax

from maml_jax.core.learner import inner_key, inner_loop, learner_of, outer_key
from maml_jax.core.loop import Minimizer
from maml_jax.core.objectives import Problem, value_and_metrics
from maml_jax.core.rule import Fast, InnerRule
from maml_jax.core.solvers import conjugate_gradients, neumann
from maml_jax.errors import check_choice, check_count, check_number
from maml_jax.types import Data, Episode, Meta, MetaLearner, Metrics, Params, RandomKey, Scalar

Solver: TypeAlias = Literal["cg", "neumann"]


def implicit(
    problem: Problem,
    rule: InnerRule,
    *,
    name: str,
    inner_steps: int,
    minimizer: Minimizer | None = None,
    solver: Solver = "cg",
    solver_steps: int,
    damping: float = 0.0,
    neumann_rate: float = 1.0,
    scale: float = 1.0,
) -> MetaLearner:
    r"""The learner that differentiates the minimum $\varphi^*$ itself.

    With $\varphi^* = \arg\min_\varphi L_S(\varphi, \theta)$, where $\nabla_\varphi L_S = 0$,

    $$\nabla^2_\varphi L_S(\varphi^*, \theta)\, v = \nabla_\varphi L_Q(\varphi^*, \theta), \qquad
      \text{meta-gradient} = \partial_\theta L_Q - \partial_\theta (v^\top \nabla_\varphi L_S)$$

    The metric `solver_residual` is the norm of the equation's residual over that of its right side.

    Args:
      problem: the objectives. In $\theta$ the inner one must depend on more than where it starts.
      rule: what adapts, from where, and the steps towards φ*.
      name: of the algorithm.
      inner_steps: steps towards φ*.
      minimizer: takes the place of the steps.
      solver: `"cg"`, conjugate gradients, as far as the matrix is positive along them; or
        `"neumann"`, v ← v + η(b − Av)/s.
      solver_steps: how many iterations, at least 1.
      damping: added to the matrix as a multiple of s, for Hessians that are not positive.
      neumann_rate: η.
      scale: s, the matrix where the loss of the support set has no curvature: λ for a term
        $\tfrac\lambda2\lVert\varphi-\theta\rVert^2$.

    Raises:
      InputError: s or η not above 0, an unknown `solver`, no `solver_steps`, negative `damping`.
    """
    scale = check_number("scale", scale, above_zero=True)
    neumann_rate = check_number("neumann_rate", neumann_rate, above_zero=True)
    check_choice("solver", solver, get_args(Solver))
    solver_steps = check_count("solver_steps", solver_steps)
    damping = check_number("damping", damping)
    loop = inner_loop(problem, rule, inner_steps, "first_order", minimizer=minimizer)

    start = jnp.zeros((), jnp.int32)

    def solve(matrix: Any, b: Fast) -> Fast:
        if solver == "neumann":
            return neumann(matrix, b, solver_steps, neumann_rate)
        flat = jax.tree.map(lambda leaf: leaf / (1 + damping), b)  # the solution without curvature
        return conjugate_gradients(matrix, b, solver_steps, otherwise=flat)

    def adapt(
        meta: Meta, support: Data, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        """The weights at the minimum, whose derivative is the minimum's, in both modes."""
        fast, frozen, *_ = loop(meta, support, steps, key=inner_key(key))
        if steps == 0:
            return rule.weights(fast, frozen, start)
        context = frozen, problem.step_batch(support, start, 1), start
        gradient = jax.grad(loop.loss(meta, inner_key(key), {}))

        def tangents(hessian: Any, b: Fast) -> Fast:
            def by_solver(matvec: Any, b: Fast) -> Fast:
                def matrix(v: Fast) -> Fast:
                    return jax.tree.map(lambda v, hv: damping * v + hv / scale, v, matvec(v))

                return jax.tree.map(lambda leaf: leaf / scale, solve(matrix, b))

            return lax.custom_linear_solve(hessian, b, by_solver, symmetric=True)

        fast = lax.custom_root(
            lambda fast: gradient(fast, context),
            lax.stop_gradient(fast),
            lambda _, fast: fast,
            tangents,
        )
        return rule.weights(fast, frozen, start)

    def value_and_grad(
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        support, query = episode
        fast = loop(meta, support, None, progress, inner_key(key)).fast
        after = outer_key(key, loop.inner_steps)
        batch = problem.step_batch(support, start, 1)

        def outer(fast: Fast, meta: Meta) -> tuple[Scalar, Metrics]:
            _, frozen, _ = rule.start(meta, support, jnp.asarray(progress))
            weights = rule.weights(fast, frozen, start)
            return value_and_metrics(problem.outer, weights, meta, query, after)

        def inner(fast: Fast, meta: Meta) -> Scalar:
            _, frozen, _ = rule.start(meta, support, jnp.asarray(progress))
            return loop.loss(meta, inner_key(key), {})(fast, (frozen, batch, start))

        (value, metrics), (b, direct) = jax.value_and_grad(outer, (0, 1), has_aux=True)(fast, meta)

        def product(of: int, v: Fast) -> Any:
            """The product of v with the inner gradient's derivative in `fast`, or in `meta`."""
            return jax.jvp(lambda fast: jax.grad(inner, of)(fast, meta), (fast,), (v,))[1]

        def matrix(v: Fast) -> Fast:
            return jax.tree.map(lambda v, hv: damping * v + hv / scale, v, product(0, v))

        v = solve(matrix, b)
        residual = jax.tree.map(jnp.subtract, b, matrix(v))
        grads = jax.tree.map(lambda d, c: d - c / scale, direct, product(1, v))
        size = optax.tree.norm(b)
        metrics = {"loss": value, **metrics}
        metrics["solver_residual"] = optax.tree.norm(residual) / jnp.where(size > 0, size, 1)
        return (value, metrics), grads

    return learner_of(loop, problem, value_and_grad, name, adapt)
