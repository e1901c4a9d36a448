"""Body Only update in Inner Loop."""

from typing import Any

from maml_jax.algorithms.anil import is_head
from maml_jax.algorithms.maml import maml
from maml_jax.core.rule import Adapts
from maml_jax.types import Apply, MetaLearner


def is_body(path: str) -> bool:
    """Whether a weight is not of the head."""
    return not is_head(path)


def boil(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    adapts: Adapts = is_body,
    **options: Any,
) -> MetaLearner:
    r"""BOIL: MAML whose body alone adapts; the head is meta-learned and stays as it is in a task.

    $$b_{k+1} = b_k - \alpha\nabla_b L_S(b_k, h), \qquad
      \text{meta-gradient} = \tfrac{d}{d(b_0, h)} L_Q(b_K, h)$$

    for the body's weights b and the head's h. Oh, Yoo, Kim, Yun: "BOIL: Towards Representation
    Change for Few-shot Learning", ICLR 2021. `adapts` tells the body by its paths; the other
    arguments, result and errors are those of `maml`.
    """
    return maml(apply, inner_lr, inner_steps, adapts=adapts, **options)
