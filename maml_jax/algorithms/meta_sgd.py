"""Meta-SGD."""

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.errors import check_number
from maml_jax.inner import learned_rates
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def meta_sgd(
    apply: Apply,
    inner_lr: float,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    adapts: Adapts | None = None,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
) -> MetaLearner:
    r"""Meta-SGD: MAML that learns a rate for every weight, direction and sign included.

    $$\varphi_{k+1} = \varphi_k - a\circ\nabla L_S(\varphi_k), \qquad
      \text{meta-gradient} = \tfrac{d}{d(\theta, a)} L_Q(\varphi_K)$$

    Li, Zhou, Chen, Li: "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017. In the
    first-order form the gradients are constants and the rates still learn.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: where all rates start.
      inner_steps: K; the paper has 1.
      loss: as in `maml`.
      query_loss: as in `maml`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      differentiate: as in `maml`.
      batch_size: as in `maml`.

    Returns:
      A `MetaLearner`; its meta-parameters are `{"params": weights, "rates": {path: rates}}`.

    Raises:
      InputError: as `maml`.
    """
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        learned_rates(check_number("inner_lr", inner_lr), adapts),
        name="meta_sgd",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
