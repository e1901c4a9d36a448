"""Almost No Inner Loop."""

import optax

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import descent, inner_optimizer_from
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def is_head(path: str) -> bool:
    """Whether a weight is of the last layer, which every model here calls `head`."""
    return path.split("/")[0] == "head"


def anil(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts = is_head,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
) -> MetaLearner:
    r"""ANIL: MAML whose head alone adapts, in training and at test.

    $$h_{k+1} = h_k - \alpha\nabla_h L_S(b, h_k), \qquad
      \text{meta-gradient} = \tfrac{d}{d(b, h_0)} L_Q(b, h_K)$$

    for the body's weights b and the head's h. Raghu, Raghu, Bengio, Vinyals: "Rapid Learning or
    Feature Reuse? Towards Understanding the Effectiveness of MAML", ICLR 2020. `adapts` tells the
    head by its paths; the other arguments, result and errors are those of `maml`.
    """
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        descent(
            inner_optimizer_from(
                inner_lr, inner_optimizer, differentiated=differentiate != "first_order"
            ),
            adapts,
        ),
        name="anil",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
