"""Body Only update in Inner Loop."""

import optax

from maml_jax.algorithms.anil import is_head
from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import descent, inner_optimizer_from, leaving_some
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def is_body(path: str) -> bool:
    """Whether a weight is not of the head."""
    return not is_head(path)


def boil(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts = is_body,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
) -> MetaLearner:
    r"""BOIL: MAML whose body alone adapts; the head is meta-learned and stays as it is in a task.

    $$b_{k+1} = b_k - \alpha\nabla_b L_S(b_k, h), \qquad
      \text{meta-gradient} = \tfrac{d}{d(b_0, h)} L_Q(b_K, h)$$

    for the body's weights b and the head's h. Oh, Yoo, Kim, Yun: "BOIL: Towards Representation
    Change for Few-shot Learning", ICLR 2021. `adapts` tells the body by its paths; the other
    arguments, result and errors are those of `maml`, and from `init` an `adapts` that leaves no
    head.
    """
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        leaving_some(
            descent(
                inner_optimizer_from(
                    inner_lr, inner_optimizer, differentiated=differentiate != "first_order"
                ),
                adapts,
            ),
            adapts,
        ),
        name="boil",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
