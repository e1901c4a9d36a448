"""What all learners have in common, whichever way their meta-gradient is estimated."""

from typing import get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from maml_jax.core.checkpointing import Policy
from maml_jax.core.entry import entry_points
from maml_jax.core.loop import InnerLoop, Minimizer
from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import Problem
from maml_jax.core.rule import InnerRule
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.types import (
    Adapt,
    Apply,
    Batch,
    Data,
    Examples,
    Meta,
    MetaLearner,
    Params,
    RandomKey,
    Scalar,
    ValueAndGrad,
)


def inner_loop(
    problem: Problem,
    rule: InnerRule,
    inner_steps: int,
    differentiate: Differentiate,
    *,
    stored_steps: int | None = None,
    last_steps: int | None = None,
    step_policy: Policy | None = None,
    minimizer: Minimizer | None = None,
) -> InnerLoop:
    """The loop, its arguments checked."""
    inner_steps = check_count("inner_steps", inner_steps, least=0)
    check_choice("differentiate", differentiate, get_args(Differentiate))
    if stored_steps is not None:
        stored_steps = check_count("stored_steps", stored_steps, least=2)
    if last_steps is not None:
        last_steps = check_count("last_steps", last_steps, least=0)
    return InnerLoop(
        problem.inner,
        rule,
        inner_steps,
        problem.step_batch,
        differentiate,
        stored_steps,
        last_steps,
        step_policy,
        minimizer,
    )


def learner_of(
    loop: InnerLoop,
    problem: Problem,
    value_and_grad: ValueAndGrad,
    name: str,
    adapt: Adapt | None = None,
) -> MetaLearner:
    """The learner called `name` that adapts by `loop` and learns by `value_and_grad`.

    `adapt` is what `loop` does, with another derivative.
    """
    model = _no_model if problem.apply is None else problem.apply

    def by_steps(
        meta: Meta, support: Data, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        return loop(meta, support, steps, key=inner_key(key)).last

    def trajectory(
        meta: Meta, support: Data, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        adapted = loop(
            meta,
            support,
            steps,
            key=inner_key(key),
            step_callback=lambda before, after, step: after,
        )
        return jax.tree.map(
            lambda first, later: jnp.concatenate([first[None], later]),
            adapted.first,
            adapted.step_outputs,
        )

    def classify(
        meta: Meta,
        support: Batch,
        x: Examples,
        *,
        transductive: bool = False,
        steps: int | None = None,
        key: RandomKey | None = None,
    ) -> Examples:
        fast = loop(meta, support, steps, key=inner_key(key)).last
        return model(fast, x) if transductive else beside(model, fast, support.x, x)

    def start_outputs(meta: Meta, support: Batch, x: Examples) -> Examples:
        fast, frozen, _ = loop.rule.start(meta, support, jnp.ones(()))
        return model(loop.rule.weights(fast, frozen, jnp.zeros((), jnp.int32)), x)

    steps = "1 inner step" if loop.inner_steps == 1 else f"{loop.inner_steps} inner steps"
    steps = steps if loop.minimizer is None else "a minimizer"
    learner = MetaLearner(
        init=loop.rule.init,
        adapt=by_steps if adapt is None else adapt,
        trajectory=trajectory,
        predict=model,
        classify=classify,
        value_and_grad=value_and_grad,
        loss=_no_loss if problem.loss is None else problem.loss,
        description=f"{name}, {steps}",
        takes_key=problem.loss is None,
    )
    exact_in_reverse = loop.differentiate == "mixed" and loop.minimizer is None
    return entry_points(
        learner,
        start_outputs,
        meta_keys=loop.rule.meta_keys,
        needs_classes=loop.rule.needs_classes,
        query_loss=problem.query_loss,
        reverse_only=lambda steps: (
            exact_in_reverse and (loop.inner_steps if steps is None else steps) > 1
        ),
    )


def inner_key(key: RandomKey | None) -> RandomKey | None:
    """The key of the inner steps; step k draws from its `fold_in` with k."""
    return None if key is None else jax.random.split(key)[0]


def outer_key(key: RandomKey | None, steps: int | Array) -> RandomKey | None:
    """The key of the outer objective after so many steps."""
    return None if key is None else jax.random.fold_in(jax.random.split(key)[1], steps)


def beside(apply: Apply, params: Params, support_x: Examples, x: Examples) -> Examples:
    """The outputs for each example of `x` by itself, in one batch with the support set.

    So batch norm over the current batch sees the support examples and this one, and the outputs do
    not depend on the other examples of `x`.
    """

    def one(example: PyTree[Array]) -> PyTree[Array]:
        together = jax.tree.map(lambda s, e: jnp.concatenate([s, e[None]]), support_x, example)
        return jax.tree.map(lambda leaf: leaf[-1], apply(params, together))

    return lax.map(one, x)


def _no_loss(outputs: Examples, y: Examples, /) -> Scalar:
    raise InputError(
        "`learner` has objectives of its own and no loss of outputs and labels; the first value of "
        "its `value_and_grad` is the outer objective after adapting."
    )


def _no_model(first: Params | Examples, second: Examples, /) -> Examples:
    raise InputError(
        "`predict` was None, so this learner has no outputs of a model: pass "
        "`predict=apply`, where apply(weights, x) -> outputs, or call your model on what `adapt` "
        "returns."
    )
