"""First-order MAML."""

from typing import Any

from maml_jax.algorithms.maml import maml
from maml_jax.types import Apply, MetaLearner


def fomaml(
    apply: Apply, inner_lr: float | None = None, inner_steps: int = 1, **options: Any
) -> MetaLearner:
    r"""FOMAML: MAML with the inner gradients taken to be constants.

    $$\text{meta-gradient} = \nabla L_Q(\varphi)\big|_{\varphi = \varphi_K}$$

    Finn, Abbeel, Levine, ICML 2017, §5.2; Nichol, Achiam, Schulman: "On First-Order Meta-Learning
    Algorithms", 2018. Arguments, result and errors are those of `maml` without `differentiate`.
    """
    return maml(apply, inner_lr, inner_steps, differentiate="first_order", **options)
