"""Training from scratch on the support set: a baseline that learns nothing from other tasks."""

import jax
import jax.numpy as jnp
import optax

from maml_jax.algorithms.fomaml import fomaml
from maml_jax.core.rule import Adapts
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Episode, Loss, Meta, MetaLearner, Metrics, RandomKey, Scalar


def scratch(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    batch_size: int | None = None,
) -> MetaLearner:
    r"""From scratch: the inner steps of MAML from the weights as they were drawn.

    $$\varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k), \qquad \text{meta-gradient} = 0$$

    What any meta-learner must beat. Arguments, result and errors are those of `maml` without
    `differentiate`.
    """
    learner = fomaml(
        apply,
        inner_lr,
        inner_steps,
        loss=loss,
        query_loss=query_loss,
        inner_optimizer=inner_optimizer,
        adapts=adapts,
        batch_size=batch_size,
    )

    def value_and_grad(
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        result, grads = learner.value_and_grad(meta, episode, progress, key=key)
        return result, jax.tree.map(jnp.zeros_like, grads)

    description = learner.description.replace("fomaml", "scratch")
    return learner._replace(value_and_grad=value_and_grad, description=description)
