"""Gradient steps of any optimiser on the network's weights."""

import optax

from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, ParamFilter, State, StepNumber
from maml_jax.core.trees import by_path
from maml_jax.errors import InputError, check_number
from maml_jax.inner.zero import safe_at_zero
from maml_jax.types import Batch, Meta, Params, Scalar


def descent(optimizer: optax.GradientTransformation, adapts: Adapts | None = None) -> InnerRule:
    """Steps of any optax `optimizer` from the meta-learned weights, its state fresh for each task.

    Args:
      optimizer: `optax.sgd(lr)` is the rule of the MAML paper. Adam needs an `eps_root` above zero
        (1e-8 will do): without it the meta-gradient is NaN where a gradient is zero.
      adapts: which weights move, as a predicate on paths such as `blocks/0/conv/kernel`; None: all.
    """
    selected = ParamFilter(adapts)

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        del support, progress
        fast, frozen = selected.split(meta)
        return fast, frozen, optimizer.init(fast)

    def weights(fast: Fast, frozen: Frozen, step: StepNumber) -> Params:
        del step
        return selected.join(fast, frozen)

    def update(
        meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        del meta, step
        updates, state = optimizer.update(gradient, state, fast)
        return optax.apply_updates(fast, updates), state

    return InnerRule(selected.check, start, weights, update)


def leaving_some(rule: InnerRule, adapts: Adapts) -> InnerRule:
    """`rule`, whose `init` refuses weights that all adapt: those that should not were not found."""

    def init(params: Params) -> Meta:
        meta, paths = rule.init(params), list(by_path(params))
        if all(map(adapts, paths)):
            raise InputError(
                f"`adapts` matched every weight, so the head would adapt too; the paths are "
                f"{', '.join(paths)}: pass a predicate that leaves those of the head."
            )
        return meta

    return rule._replace(init=init)


def inner_optimizer_from(
    inner_lr: float | None,
    inner_optimizer: optax.GradientTransformation | None,
    *,
    differentiated: bool = False,
) -> optax.GradientTransformation:
    """Plain gradient descent at `inner_lr`, or `inner_optimizer`, whichever is given.

    Where the meta-gradient goes through its updates (`differentiated`), it is made safe where the
    whole gradient is zero, and the log says if it is NaN where an element is.

    Raises:
      InputError: both or neither is given, or a negative `inner_lr`.
    """
    if inner_optimizer is not None and inner_lr is None:
        return safe_at_zero(inner_optimizer) if differentiated else inner_optimizer
    if inner_optimizer is None and inner_lr is not None:
        return optax.sgd(check_number("inner_lr", inner_lr))
    raise InputError(
        f"`inner_lr` was {inner_lr} and `inner_optimizer` {inner_optimizer}; pass exactly one."
    )
