"""Descent that is held near where it started."""

import jax

from maml_jax.core.rule import Adapts, InnerRule, Part


def proximal(rule: InnerRule, strength: float, adapts: Adapts | None = None) -> InnerRule:
    r"""`rule` on $L_S(\varphi) + \tfrac\lambda2 \lVert\varphi-\theta\rVert^2$, `strength` being λ.

    `rule` is one whose meta-parameters are the weights, with the same `adapts`.
    """
    part = Part(adapts)

    def update(meta, gradient, state, fast, step):
        anchor, _ = part.split(meta)
        pulled = jax.tree.map(lambda g, w, a: g + strength * (w - a), gradient, fast, anchor)
        return rule.update(meta, pulled, state, fast, step)

    return rule._replace(update=update)
