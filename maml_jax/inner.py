"""How weights move within a task, the first of the three choices, and the loop that moves them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from maml_jax.errors import InputError, check_count
from maml_jax.losses import accuracy, is_classification
from maml_jax.metagrad import Differentiate, inner_gradient
from maml_jax.trees import combine, partition, path_name
from maml_jax.types import Apply, Batch, Episode, Loss, Meta, MetaLearner, Params


class InnerRule(NamedTuple):
    """What adapts, from where, and by which steps.

    `fast` are the weights that adapt, `frozen` what the network needs besides (both pytrees), and
    `state` whatever the steps carry along, such as an optimiser's moments.
    """

    init: Callable[[Params], Meta]
    """`init(params) -> meta`"""
    start: Callable[[Meta, Batch], tuple[Any, Any, Any]]
    """`start(meta, support) -> (fast, frozen, state)`"""
    weights: Callable[[Any, Any], Params]
    """`weights(fast, frozen) -> params`, as the network takes them"""
    update: Callable[[Meta, Any, Any, Any], tuple[Any, Any]]
    """`update(meta, gradient, state, fast) -> (fast, state)`"""


def descent(
    optimizer: optax.GradientTransformation, adapts: Callable[[str], bool] | None = None
) -> InnerRule:
    """Steps of any optax `optimizer` from the meta-learned weights, its state fresh for each task.

    Args:
      optimizer: `optax.sgd(lr)` is the rule of the MAML paper. Adam needs an `eps_root` above zero
        (1e-8 will do): without it the meta-gradient is NaN where a gradient is zero.
      adapts: which weights move, as a predicate on paths such as `blocks/0/conv/kernel`; None: all.
    """

    def init(params):
        if adapts is not None:
            paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
            if not any(map(adapts, paths)):
                raise InputError(f"`adapts` matched no weight; the paths are {', '.join(paths)}.")
        return params

    def start(meta, support):
        del support
        fast, frozen = (meta, None) if adapts is None else partition(adapts, meta)
        return fast, frozen, optimizer.init(fast)

    def weights(fast, frozen):
        return fast if adapts is None else combine(fast, frozen)

    def update(meta, gradient, state, fast):
        del meta
        updates, state = optimizer.update(gradient, state, fast)
        return optax.apply_updates(fast, updates), state

    return InnerRule(init, start, weights, update)


def unrolled(
    apply: Apply,
    rule: InnerRule,
    *,
    inner_steps: int,
    loss: Loss,
    differentiate: Differentiate,
) -> MetaLearner:
    r"""The learner that takes `inner_steps` of `rule` on the support set.

    $$\min_\theta L_Q(\varphi_K), \qquad \varphi_0 = \mathrm{start}(\theta), \qquad
      \varphi_{k+1} = \mathrm{update}(\varphi_k, \nabla L_S(\varphi_k))$$
    """
    check_count("inner_steps", inner_steps, least=0)

    def support_loss(fast, context):
        frozen, support = context
        return loss(apply(rule.weights(fast, frozen), support.x), support.y)

    gradient = inner_gradient(support_loss, differentiate)

    def run(meta, support, steps, emit):
        steps = inner_steps if steps is None else check_count("steps", steps, least=0)
        fast, frozen, state = rule.start(meta, support)

        def step(carry, _):
            fast, state = carry
            fast, state = rule.update(meta, gradient(fast, (frozen, support)), state, fast)
            return (fast, state), emit(rule.weights(fast, frozen))

        first = emit(rule.weights(fast, frozen))
        (fast, _), later = lax.scan(step, (fast, state), length=steps)
        return rule.weights(fast, frozen), first, later

    def adapt(meta, support, steps=None):
        return run(meta, support, steps, lambda _: None)[0]

    def trajectory(meta, support, steps=None):
        _, first, later = run(meta, support, steps, lambda weights: weights)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    def meta_loss(meta, episode: Episode):
        outputs = apply(adapt(meta, episode.support), episode.query.x)
        return loss(outputs, episode.query.y), outputs

    def value_and_grad(meta, episode):
        (value, outputs), grads = jax.value_and_grad(meta_loss, has_aux=True)(meta, episode)
        metrics = {"loss": value}
        if is_classification(outputs, episode.query.y):
            metrics["accuracy"] = accuracy(outputs, episode.query.y)
        return (value, metrics), grads

    return MetaLearner(rule.init, adapt, trajectory, apply, value_and_grad, loss)
