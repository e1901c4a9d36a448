"""The loop over inner steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maml_jax.core.metagrad import Differentiate, inner_gradient
from maml_jax.core.rule import InnerRule
from maml_jax.errors import check_count
from maml_jax.types import Apply, Batch, Loss, Meta, Params


class Adapted(NamedTuple):
    """What came of the inner steps on one task."""

    fast: Any
    frozen: Any
    first: Params
    """The network's weights before the first step."""
    last: Params
    """The network's weights after the last step."""
    seen: Any
    """What `look` made of the weights after each step, on a new leading axis."""


class InnerLoop(NamedTuple):
    """`inner_steps` of `rule` on the support set.

    With a `batch_size`, step k takes only that many examples: the next ones of one fixed random
    order, over and over.
    """

    apply: Apply
    rule: InnerRule
    inner_steps: int
    loss: Loss
    differentiate: Differentiate = "mixed"
    batch_size: int | None = None

    def support_loss(self, fast: Any, context: Any) -> jax.Array:
        """The loss on `context = (frozen, support, step)`."""
        frozen, support, step = context
        return self.loss(self.apply(self.rule.weights(fast, frozen, step), support.x), support.y)

    def __call__(
        self,
        meta: Meta,
        support: Batch,
        steps: int | None = None,
        progress: Any = 1.0,
        look: Callable[[Params, jax.Array], Any] = lambda params, step: None,
    ) -> Adapted:
        """Adapt to one task; `look(params, step)` sees the weights that each step leaves."""
        steps = self.inner_steps if steps is None else check_count("steps", steps, least=0)
        rule, gradient = self.rule, inner_gradient(self.support_loss, self._mode(steps))
        fast, frozen, state = rule.start(meta, support, jnp.asarray(progress))

        def body(carry, step):
            fast, state = carry
            slope = gradient(fast, (frozen, self._part(support, step), step))
            fast, state = rule.update(meta, slope, state, fast, step)
            return (fast, state), look(rule.weights(fast, frozen, step), step)

        first = rule.weights(fast, frozen, jnp.zeros((), jnp.int32))
        (fast, _), seen = lax.scan(body, (fast, state), jnp.arange(steps, dtype=jnp.int32))
        last = rule.weights(fast, frozen, jnp.asarray(max(steps - 1, 0), jnp.int32))
        return Adapted(fast, frozen, first, last, seen)

    def _mode(self, steps: int) -> Differentiate:
        """Of one step little is stored, so that what `mixed` computes anew would be in vain."""
        return "reverse" if self.differentiate == "mixed" and steps == 1 else self.differentiate

    def _part(self, support: Batch, step: jax.Array) -> Batch:
        examples = len(support.x)
        if self.batch_size is None or self.batch_size >= examples:
            return support
        order = jnp.asarray(np.random.default_rng(0).permutation(examples))
        places = (step * self.batch_size + jnp.arange(self.batch_size)) % examples
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[order[places]], support)
