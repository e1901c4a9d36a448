"""The loop over inner steps."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, PyTree

from maml_jax.core.checkpointing import Policy, probe, scan_steps
from maml_jax.core.metagrad import ContextLoss, Differentiate, inner_gradient
from maml_jax.core.objectives import Changed, Inner, StepBatch, value_and_changed
from maml_jax.core.rule import Fast, Frozen, InnerRule, StepNumber
from maml_jax.core.trees import by_path
from maml_jax.errors import InputError, check_count
from maml_jax.kernels.jax_internals import vary_like
from maml_jax.types import Data, Meta, Params, RandomKey, Scalar


@runtime_checkable
class StepCallback(Protocol):
    """Something to compute in every inner step."""

    def __call__(self, before: Params, after: Params, step: StepNumber, /) -> PyTree[Array]:
        """What is to be kept of the weights that this step found and left."""


@runtime_checkable
class Minimizer(Protocol):
    """A minimiser that stops by itself."""

    def __call__(self, objective: Any, start: Fast, /) -> Fast:
        """The minimum of `objective(fast) -> scalar`, sought from `start`."""


class Adapted(NamedTuple):
    """The result of the inner steps on one task."""

    fast: Fast
    frozen: Frozen
    first: Params
    """The network's weights before the first step."""
    last: Params
    """The network's weights after the last step."""
    step_outputs: PyTree[Array]
    """The outputs of `step_callback` after each step, stacked on a new leading axis."""


class InnerLoop(NamedTuple):
    """`inner_steps` of `rule` on the inner objective."""

    inner: Inner
    rule: InnerRule
    inner_steps: int
    step_batch: StepBatch
    differentiate: Differentiate = "mixed"
    stored_steps: int | None = None
    """About how many copies of the weights are stored for the meta-gradient; None: one a step."""
    last_steps: int | None = None
    """How many steps the meta-gradient goes through, the last ones; None: all."""
    step_policy: Policy | None = None
    """What is stored within a step; None: what JAX stores."""
    minimizer: Minimizer | None = None
    """What takes the place of the steps."""

    def loss(self, meta: Meta, key: RandomKey | None, changed: Changed) -> ContextLoss:
        """The loss on `context = (frozen, batch, step)`.

        It closes over the rest, so that what `inner` does not use is no part of the derivative.
        """

        def loss(fast: Fast, context: tuple[Frozen, Data, StepNumber]) -> Scalar:
            frozen, batch, step = context
            weights = _with(self.rule.weights(fast, frozen, step), changed)
            return value_and_changed(self.inner, weights, meta, batch, key)[0]

        return loss

    def __call__(
        self,
        meta: Meta,
        support: Data,
        steps: int | None = None,
        progress: float | Scalar = 1.0,
        key: RandomKey | None = None,
        step_callback: StepCallback = lambda before, after, step: None,
        probes: Float[Array, " steps"] | None = None,
    ) -> Adapted:
        """Adapt to one task; `step_callback(before, after, step)` is called in every step.

        The derivative in `probes` is the norm of that in the weights which each step starts from.
        """
        if self.minimizer is not None:
            if steps is not None:
                raise InputError(
                    f"`steps` was {steps}; a `minimizer` stops by itself: leave it out."
                )
            return self._minimize(self.minimizer, meta, support, progress, key, step_callback)
        steps = self.inner_steps if steps is None else check_count("steps", steps, least=0)
        rule, mode = self.rule, self._mode(steps)
        fast, frozen, state = rule.start(meta, support, jnp.asarray(progress))
        # What a step leaves varies over devices as the support set does; so must what it takes.
        fast, state = vary_like((fast, state), (meta, support))
        zero = jnp.zeros((), jnp.int32)
        first = rule.weights(fast, frozen, zero)
        changed: Changed = {}
        if steps:
            batch = self.step_batch(support, zero, steps)
            changed = self._changing(fast, first, meta, batch, key)

        def body(carry: Any, step: StepNumber) -> Any:
            fast, state, changed = carry
            if self.step_policy is not None:
                fast, state = checkpoint_name((fast, state), "inner_weights")
            if probes is not None:
                fast = probe(fast, probes[step])
            batch, step_key = self.step_batch(support, step, steps), _of_step(key, step)
            before = _with(rule.weights(fast, frozen, step), changed)
            slope = inner_gradient(self.loss(meta, step_key, changed), mode)(
                fast, (frozen, batch, step)
            )
            if self.step_policy is not None:
                slope = checkpoint_name(slope, "inner_gradient")
            if changed:
                _, new = value_and_changed(self.inner, before, meta, batch, step_key)
                changed = lax.stop_gradient(new)
            fast, state = rule.update(meta, slope, state, fast, step)
            after = _with(rule.weights(fast, frozen, step), changed)
            return (fast, state, changed), step_callback(before, after, step)

        (fast, _, changed), outputs = scan_steps(
            body,
            (fast, state, changed),
            steps,
            stored=self.stored_steps,
            last=self.last_steps,
            policy=self.step_policy,
        )
        last = rule.weights(fast, frozen, jnp.asarray(max(steps - 1, 0), jnp.int32))
        return Adapted(fast, frozen, first, _with(last, changed), outputs)

    def _minimize(
        self,
        minimizer: Minimizer,
        meta: Meta,
        support: Data,
        progress: float | Scalar,
        key: RandomKey | None,
        step_callback: StepCallback,
    ) -> Adapted:
        fast, frozen, _ = self.rule.start(meta, support, jnp.asarray(progress))
        zero = jnp.zeros((), jnp.int32)
        first, loss = self.rule.weights(fast, frozen, zero), self.loss(meta, key, {})
        context = frozen, self.step_batch(support, zero, 1), zero
        fast = minimizer(lambda fast: loss(fast, context), fast)
        last = self.rule.weights(fast, frozen, zero)
        outputs = jax.tree.map(lambda leaf: leaf[None], step_callback(first, last, zero))
        return Adapted(fast, frozen, first, last, outputs)

    def _changing(
        self, fast: Fast, weights: Params, meta: Meta, batch: Data, key: RandomKey | None
    ) -> Changed:
        """The entries of the weights that `inner` changes, as they are at first."""

        def of(weights: Params) -> Changed:
            return value_and_changed(self.inner, weights, meta, batch, key)[1]

        names = jax.eval_shape(of, weights)
        both = names and {path.partition("/")[0] for path in by_path(fast)} & set(names)
        if both:
            raise InputError(
                f"`inner` returned new values of {', '.join(both)}, which adapts too; pass an "
                "`adapts` that leaves it."
            )
        return {name: lax.stop_gradient(weights[name]) for name in names}

    def _mode(self, steps: int) -> Differentiate:
        """Reverse mode for one step: there is little to store, so recomputing gains nothing."""
        return "reverse" if self.differentiate == "mixed" and steps == 1 else self.differentiate


def _of_step(key: RandomKey | None, step: StepNumber) -> RandomKey | None:
    return None if key is None else jax.random.fold_in(key, step)


def _with(weights: Params, changed: Changed) -> Params:
    return {**weights, **changed} if changed else weights
