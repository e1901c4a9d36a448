"""The loop over inner steps."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from maml_jax.core.checks import checked_loss, count_examples
from maml_jax.core.metagrad import Differentiate, inner_gradient
from maml_jax.core.rule import Fast, Frozen, InnerRule, StepNumber
from maml_jax.errors import check_count
from maml_jax.kernels.jax_internals import vary_like
from maml_jax.types import Apply, Batch, Loss, Meta, Params, Scalar


@runtime_checkable
class StepCallback(Protocol):
    """Something to compute after every inner step."""

    def __call__(self, params: Params, step: StepNumber, /) -> PyTree[Array]:
        """What is to be kept of the weights that this step left."""


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
    """`inner_steps` of `rule` on the support set.

    With a `batch_size`, each step takes only that many support examples: the next ones of one fixed
    random order, over and over.
    """

    apply: Apply
    rule: InnerRule
    inner_steps: int
    loss: Loss
    differentiate: Differentiate = "mixed"
    batch_size: int | None = None

    def support_loss(self, fast: Fast, context: tuple[Frozen, Batch, StepNumber]) -> Scalar:
        """The loss on `context = (frozen, support, step)`."""
        frozen, support, step = context
        outputs = self.apply(self.rule.weights(fast, frozen, step), support.x)
        return checked_loss(self.loss)(outputs, support.y)

    def __call__(
        self,
        meta: Meta,
        support: Batch,
        steps: int | None = None,
        progress: float | Scalar = 1.0,
        step_callback: StepCallback = lambda params, step: None,
    ) -> Adapted:
        """Adapt to one task; `step_callback(params, step)` is called after every step."""
        steps = self.inner_steps if steps is None else check_count("steps", steps, least=0)
        rule, gradient = self.rule, inner_gradient(self.support_loss, self._mode(steps))
        fast, frozen, state = rule.start(meta, support, jnp.asarray(progress))
        # What a step leaves varies over devices as the support set does; so must what it takes.
        fast, state = vary_like((fast, state), (meta, support))

        def body(carry: Any, step: StepNumber) -> Any:
            fast, state = carry
            slope = gradient(fast, (frozen, self._step_batch(support, step), step))
            fast, state = rule.update(meta, slope, state, fast, step)
            return (fast, state), step_callback(rule.weights(fast, frozen, step), step)

        first = rule.weights(fast, frozen, jnp.zeros((), jnp.int32))
        (fast, _), outputs = lax.scan(body, (fast, state), jnp.arange(steps, dtype=jnp.int32))
        last = rule.weights(fast, frozen, jnp.asarray(max(steps - 1, 0), jnp.int32))
        return Adapted(fast, frozen, first, last, outputs)

    def _mode(self, steps: int) -> Differentiate:
        """Reverse mode for one step: there is little to store, so recomputing gains nothing."""
        return "reverse" if self.differentiate == "mixed" and steps == 1 else self.differentiate

    def _step_batch(self, support: Batch, step: StepNumber) -> Batch:
        if self.batch_size is None:
            return support
        examples = count_examples(support)
        if self.batch_size >= examples:
            return support
        order = jnp.asarray(np.random.default_rng(0).permutation(examples))
        chosen = order[(step * self.batch_size + jnp.arange(self.batch_size)) % examples]
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], support)
