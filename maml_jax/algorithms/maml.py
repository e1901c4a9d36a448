"""Model-Agnostic Meta-Learning."""

from typing import Any

import optax

from maml_jax.core.estimators import inner_optimizer_from, unrolled
from maml_jax.core.rule import Adapts
from maml_jax.inner import descent
from maml_jax.types import Apply, MetaLearner


def maml(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    **options: Any,
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
      inner_optimizer: any optax optimiser, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      options: `loss`, `(outputs, y) -> scalar`, a mean over examples (cross-entropy by default);
        `query_loss`, where the meta-objective is another; `differentiate`, `"mixed"` (exact, small
        memory), `"reverse"` (exact) or `"first_order"`; `batch_size`, to see so many support
        examples in a step.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights.

    Raises:
      InputError: not exactly one of `inner_lr` and `inner_optimizer`, negative `inner_lr` or
        `inner_steps`, an unknown `differentiate`; from `init`, an `adapts` that matches nothing.
    """
    rule = descent(inner_optimizer_from(inner_lr, inner_optimizer), adapts)
    return unrolled(apply, rule, inner_steps=inner_steps, **options)
