"""Almost No Inner Loop."""

from typing import Any

from maml_jax.algorithms.maml import maml
from maml_jax.core.rule import Adapts
from maml_jax.types import Apply, MetaLearner


def is_head(path: str) -> bool:
    """Whether a weight is of the last layer, which every model here calls `head`."""
    return path.split("/")[0] == "head"


def anil(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    adapts: Adapts = is_head,
    **options: Any,
) -> MetaLearner:
    r"""ANIL: MAML whose head alone adapts, in training and at test.

    $$h_{k+1} = h_k - \alpha\nabla_h L_S(b, h_k), \qquad
      \text{meta-gradient} = \tfrac{d}{d(b, h_0)} L_Q(b, h_K)$$

    for the body's weights b and the head's h. Raghu, Raghu, Bengio, Vinyals: "Rapid Learning or
    Feature Reuse? Towards Understanding the Effectiveness of MAML", ICLR 2020. `adapts` tells the
    head by its paths; the other arguments, result and errors are those of `maml`.
    """
    return maml(apply, inner_lr, inner_steps, adapts=adapts, **options)
