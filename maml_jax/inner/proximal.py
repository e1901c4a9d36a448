"""Descent that is held near where it started."""

import jax

from maml_jax.core.rule import Adapts, Fast, InnerRule, ParamFilter, State, StepNumber
from maml_jax.types import Meta


def proximal(rule: InnerRule, regularization: float, adapts: Adapts | None = None) -> InnerRule:
    r"""`rule` on $L_S(\varphi) + \tfrac\lambda2 \lVert\varphi-\theta\rVert^2$.

    λ is `regularization`. The meta-parameters of `rule` must be the weights, its `adapts` the same.
    """
    selected = ParamFilter(adapts)

    def update(
        meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        anchor, _ = selected.split(meta)
        pulled = jax.tree.map(lambda g, w, a: g + regularization * (w - a), gradient, fast, anchor)
        return rule.update(meta, pulled, state, fast, step)

    return rule._replace(update=update)
