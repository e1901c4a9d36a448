"""An inner objective that holds the weights near where they started."""

import jax
import jax.numpy as jnp

from maml_jax.core.objectives import Problem, value_and_changed
from maml_jax.types import Data, Meta, Params, RandomKey, Scalar


def proximal(problem: Problem, regularization: float) -> Problem:
    r"""`problem` with the inner $L_S(\varphi) + \tfrac\lambda2 \lVert\varphi-\theta\rVert^2$.

    λ is `regularization`. The meta-parameters θ must be the weights; those that do not adapt add
    nothing.
    """

    def inner(weights: Params, meta: Meta, batch: Data, key: RandomKey | None) -> Scalar:
        value, _ = value_and_changed(problem.inner, weights, meta, batch, key)
        squares = jax.tree.map(lambda w, a: jnp.sum(jnp.square(w - a)), weights, meta)
        return value + regularization / 2 * sum(jax.tree.leaves(squares))

    return problem._replace(inner=inner)
