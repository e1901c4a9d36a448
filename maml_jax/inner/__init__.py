"""How weights move within a task, the first of the three choices: the rules, and their loop."""

from maml_jax.core.loop import InnerLoop
from maml_jax.core.rule import InnerRule
from maml_jax.inner.context import context
from maml_jax.inner.curvature import curvature
from maml_jax.inner.descent import descent
from maml_jax.inner.prototypes import from_prototypes, without_head
from maml_jax.inner.proximal import proximal
from maml_jax.inner.rates import learned_rates, per_step

__all__ = [
    "InnerLoop",
    "InnerRule",
    "context",
    "curvature",
    "descent",
    "from_prototypes",
    "learned_rates",
    "per_step",
    "proximal",
    "without_head",
]
