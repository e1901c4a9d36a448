"""Reptile."""

import optax

from maml_jax.core.displaced import displaced
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.inner import descent, inner_optimizer_from
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def reptile(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    batch_size: int | None = None,
) -> MetaLearner:
    r"""Reptile: the initial weights move towards the adapted ones.

    $$\varphi_0 = \theta, \qquad \varphi_{k+1} = \varphi_k - \alpha\nabla L_S(\varphi_k), \qquad
      \text{“meta-gradient”} = \theta - \varphi_K$$

    Nichol, Achiam, Schulman: "On First-Order Meta-Learning Algorithms", 2018. It learns from what
    different mini-batches of a task have in common: give it more shots in training than at test
    and a `batch_size`; one full step alone is joint training on all tasks. The optimiser's state
    is fresh for each task. The query set serves the metrics alone.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: α, the rate of plain gradient descent.
      inner_steps: K, the steps on the support set.
      loss: as in `maml`.
      inner_optimizer: any optax optimiser, instead of `inner_lr`; the paper's is `adam(b1=0)`.
      adapts: a predicate on the paths of the weights that adapt; the others do not learn.
      batch_size: support examples of a step; None: all of them.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights.

    Raises:
      InputError: as `maml`.
    """
    return displaced(
        supervised(apply, loss, batch_size=batch_size),
        descent(inner_optimizer_from(inner_lr, inner_optimizer), adapts),
        name="reptile",
        inner_steps=inner_steps,
    )
