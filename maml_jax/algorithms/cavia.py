"""Fast Context Adaptation via Meta-Learning."""

import optax

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.errors import check_count, check_seed
from maml_jax.inner import context, inner_optimizer_from
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def cavia(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
    context_size: int = 100,
    seed: int = 0,
) -> MetaLearner:
    r"""CAVIA: a context vector adapts, from zero; the network that reads it stays.

    $$c_0 = 0, \qquad c_{k+1} = c_k - \alpha\nabla_c L_S(\theta, c_k), \qquad
      \text{meta-gradient} = \tfrac{d}{d\theta} L_Q(\theta, c_K)$$

    Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson: "Fast Context Adaptation via Meta-Learning", ICML
    2019. The context shifts weights by learned linear maps: shifting a dense layer's bias is their
    context as further inputs of that layer; shifting batch norm's scale and bias is their FiLM.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: α.
      inner_steps: K, the steps on the support set.
      loss: as in `maml`.
      query_loss: as in `maml`.
      inner_optimizer: any optax optimiser, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that the context shifts; None: all vectors,
        that is biases and scales.
      differentiate: as in `maml`.
      batch_size: as in `maml`.
      context_size: the length of c.
      seed: of the linear maps' start.

    Returns:
      A `MetaLearner`; its meta-parameters are `{"params": weights, "projections": {path: maps}}`.

    Raises:
      InputError: as `maml`; no `context_size`.
    """
    context_size = check_count("context_size", context_size)
    optimizer = inner_optimizer_from(
        inner_lr, inner_optimizer, differentiated=differentiate != "first_order"
    )
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        context(optimizer, context_size, adapts, check_seed("seed", seed)),
        name="cavia",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
