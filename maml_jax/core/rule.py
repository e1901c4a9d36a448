"""What an inner rule is, and the part of the weights that one moves."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax

from maml_jax.core.trees import combine, partition, path_name
from maml_jax.errors import InputError
from maml_jax.types import Batch, Meta, Params

Adapts: TypeAlias = Callable[[str], bool]
"""A predicate on the paths of weights, such as `blocks/0/conv/kernel`."""


class InnerRule(NamedTuple):
    """What adapts, from where, and by which steps.

    `fast` is what adapts, `frozen` what the network needs besides (both pytrees), and `state`
    whatever the steps carry along, such as an optimiser's moments. Steps count from 0.
    """

    init: Callable[[Params], Meta]
    """`init(params) -> meta`"""
    start: Callable[[Meta, Batch, jax.Array], tuple[Any, Any, Any]]
    """`start(meta, support, progress) -> (fast, frozen, state)`; `progress` through training is in
    [0, 1], for the rules that have a schedule"""
    weights: Callable[[Any, Any, jax.Array], Params]
    """`weights(fast, frozen, step) -> params`, as the network takes them during that step"""
    update: Callable[[Meta, Any, Any, Any, jax.Array], tuple[Any, Any]]
    """`update(meta, gradient, state, fast, step) -> (fast, state)`"""


class Part(NamedTuple):
    """The weights that adapt, told from the others by a predicate; None: all of them adapt."""

    adapts: Adapts | None

    def check(self, params: Params) -> Params:
        """`params`, or an `InputError` where the predicate matches none of them."""
        if self.adapts is not None:
            paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
            if not any(map(self.adapts, paths)):
                raise InputError(f"`adapts` matched no weight; the paths are {', '.join(paths)}.")
        return params

    def split(self, params: Params) -> tuple[Any, Any]:
        """`(fast, frozen)`."""
        return (params, None) if self.adapts is None else partition(self.adapts, params)

    def join(self, fast: Any, frozen: Any) -> Params:
        """The inverse of `split`."""
        return fast if self.adapts is None else combine(fast, frozen)
