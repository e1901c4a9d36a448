"""How weights move within a task: the inner rules, one file each, for `core.loop.InnerLoop`."""

from maml_jax.inner.context import context
from maml_jax.inner.curvature import curvature
from maml_jax.inner.descent import descent, inner_optimizer_from, leaving_some
from maml_jax.inner.prototypes import from_prototypes, without_head
from maml_jax.inner.proximal import proximal
from maml_jax.inner.rates import learned_rates, per_step
from maml_jax.inner.zero import can_be_made_safe, made_safe

__all__ = [
    "can_be_made_safe",
    "context",
    "curvature",
    "descent",
    "from_prototypes",
    "inner_optimizer_from",
    "learned_rates",
    "leaving_some",
    "made_safe",
    "per_step",
    "proximal",
    "without_head",
]
