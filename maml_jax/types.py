"""The vocabulary: what a task is, and what a learner of tasks can do."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax

Params: TypeAlias = Any
"""A pytree of arrays: the weights of a network."""
Meta: TypeAlias = Any
"""A pytree of arrays: everything that the outer loop learns. For MAML it is the `Params`."""
Metrics: TypeAlias = dict[str, jax.Array]
Apply: TypeAlias = Callable[[Params, jax.Array], jax.Array]
"""A model as a pure function: `apply(params, x) -> outputs`."""
Loss: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""`loss(outputs, y) -> scalar`, a mean over the examples."""


class Batch(NamedTuple):
    """Examples `x` and their labels or targets `y`; the leading axis of both counts them."""

    x: jax.Array
    y: jax.Array


class Episode(NamedTuple):
    """One task: the `support` set to adapt on and the `query` set to be judged on.

    With one more leading axis on every array it is a batch of episodes.
    """

    support: Batch
    query: Batch


class MetaLearner(NamedTuple):
    """A few-shot learner as pure functions of one task, to be `vmap`ped and `jit`ted at will."""

    init: Callable[[Params], Meta]
    """`init(params) -> meta`: the meta-parameters that start from these network weights."""
    adapt: Callable[..., Params]
    """`adapt(meta, support, steps=None) -> fast weights`; `steps=None` takes those of training."""
    trajectory: Callable[..., Params]
    """Like `adapt`, with the weights after 0, 1, …, `steps` inner steps on a new leading axis."""
    predict: Apply
    """`predict(fast, x) -> outputs` of the adapted network."""
    value_and_grad: Callable[..., tuple[tuple[jax.Array, Metrics], Meta]]
    """`value_and_grad(meta, episode, progress=1.0) -> ((query loss, metrics), meta-gradient)`;
    `progress`, from 0 to 1 through training, is for algorithms that have a schedule."""
    loss: Loss
    """The loss that it learns by."""
