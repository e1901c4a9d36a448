"""Model-Agnostic Meta-Learning."""

from collections.abc import Callable

import optax

from maml_jax.errors import InputError
from maml_jax.inner import descent, unrolled
from maml_jax.losses import softmax_cross_entropy
from maml_jax.metagrad import Differentiate
from maml_jax.types import Apply, Loss, MetaLearner


def maml(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    inner_optimizer: optax.GradientTransformation | None = None,
    differentiate: Differentiate = "mixed",
    adapts: Callable[[str], bool] | None = None,
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
      loss: `loss(outputs, y) -> scalar`, a mean over examples.
      inner_optimizer: any optax optimiser, instead of `inner_lr`.
      differentiate: `"mixed"` (exact, small memory), `"reverse"` (exact) or `"first_order"`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights.

    Raises:
      InputError: not exactly one of `inner_lr` and `inner_optimizer`, negative `inner_steps`, an
        unknown `differentiate`; from `init`, an `adapts` that matches nothing.
    """
    if (inner_lr is None) == (inner_optimizer is None):
        raise InputError(
            f"`inner_lr` was {inner_lr} and `inner_optimizer` {inner_optimizer}; pass exactly one."
        )
    rule = descent(inner_optimizer or optax.sgd(inner_lr), adapts)
    return unrolled(apply, rule, inner_steps=inner_steps, loss=loss, differentiate=differentiate)
