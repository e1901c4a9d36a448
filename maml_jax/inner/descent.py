"""Steps of an optimiser from the meta-learned weights."""

import optax

from maml_jax.core.rule import Adapts, InnerRule, Part


def descent(optimizer: optax.GradientTransformation, adapts: Adapts | None = None) -> InnerRule:
    """Steps of any optax `optimizer` from the meta-learned weights, its state fresh for each task.

    Args:
      optimizer: `optax.sgd(lr)` is the rule of the MAML paper. Adam needs an `eps_root` above zero
        (1e-8 will do): without it the meta-gradient is NaN where a gradient is zero.
      adapts: which weights move, as a predicate on paths such as `blocks/0/conv/kernel`; None: all.
    """
    part = Part(adapts)

    def start(meta, support, progress):
        del support, progress
        fast, frozen = part.split(meta)
        return fast, frozen, optimizer.init(fast)

    def weights(fast, frozen, step):
        del step
        return part.join(fast, frozen)

    def update(meta, gradient, state, fast, step):
        del meta, step
        updates, state = optimizer.update(gradient, state, fast)
        return optax.apply_updates(fast, updates), state

    return InnerRule(part.check, start, weights, update)
