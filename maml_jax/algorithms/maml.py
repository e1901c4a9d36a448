"""Model-Agnostic Meta-Learning."""

import optax

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import descent, inner_optimizer_from
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def maml(
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
) -> MetaLearner:
    r"""MAML: the initial weights from which a few gradient steps solve a new task.

    $$\varphi_0 = \theta, \qquad \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k), \qquad
      \text{meta-gradient} = \tfrac{d}{d\theta} L_Q(\varphi_K)$$

    Finn, Abbeel, Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
    2017. `loss` is a mean over examples; Finn's code sums over the classes of the support set, so
    its rate for N ways is N times smaller for the same step.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: α, the rate of plain gradient descent.
      inner_steps: K, the steps on the support set.
      loss: `loss(outputs, y) -> scalar`, a mean over examples, in nats for the cross-entropy.
      query_loss: the meta-objective, where it is not `loss`.
      inner_optimizer: any optax optimiser, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      differentiate: `"mixed"` (exact, little memory), `"reverse"` (exact) or `"first_order"`.
      batch_size: support examples of a step; None: all of them.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights.

    Raises:
      InputError: not exactly one of `inner_lr` and `inner_optimizer`, negative `inner_lr` or
        `inner_steps`, an unknown `differentiate`; from `init`, an `adapts` that matches nothing.
    """
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        descent(
            inner_optimizer_from(
                inner_lr, inner_optimizer, differentiated=differentiate != "first_order"
            ),
            adapts,
        ),
        name="maml",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
