"""First-order MAML."""

import optax

from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import descent, inner_optimizer_from
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def fomaml(
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
    r"""FOMAML: MAML with the inner gradients taken to be constants.

    $$\text{meta-gradient} = \nabla L_Q(\varphi)\big|_{\varphi = \varphi_K}$$

    Finn, Abbeel, Levine, ICML 2017, §5.2; Nichol, Achiam, Schulman: "On First-Order Meta-Learning
    Algorithms", 2018. Arguments, result and errors are those of `maml` without `differentiate`.
    """
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        descent(inner_optimizer_from(inner_lr, inner_optimizer), adapts),
        name="fomaml",
        inner_steps=inner_steps,
        differentiate="first_order",
    )
