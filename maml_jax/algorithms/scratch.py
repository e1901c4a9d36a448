"""Training from scratch on the support set: a baseline that learns nothing from other tasks."""

from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.algorithms.maml import maml
from maml_jax.types import Apply, MetaLearner


def scratch(
    apply: Apply, inner_lr: float | None = None, inner_steps: int = 1, **options: Any
) -> MetaLearner:
    r"""From scratch: the inner steps of MAML from the weights as they were drawn.

    $$\varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k), \qquad \text{meta-gradient} = 0$$

    What any meta-learner must beat. Arguments, result and errors are those of `maml`.
    """
    learner = maml(apply, inner_lr, inner_steps, **{**options, "differentiate": "first_order"})

    def value_and_grad(meta, episode, progress=1.0):
        result, grads = learner.value_and_grad(meta, episode, progress)
        return result, jax.tree.map(jnp.zeros_like, grads)

    return learner._replace(value_and_grad=value_and_grad)
