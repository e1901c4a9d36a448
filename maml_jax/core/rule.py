"""What an inner rule is, and the filter that tells the weights that adapt from the others."""

from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Int, PyTree

from maml_jax.core.trees import by_path, combine, partition
from maml_jax.errors import InputError
from maml_jax.types import Batch, Init, Meta, Params, Scalar

Fast: TypeAlias = PyTree[Array]
"""What adapts within a task: weights, some of them, or a context."""
Frozen: TypeAlias = PyTree[Array]
"""What the network needs besides, the same in every inner step."""
State: TypeAlias = PyTree[Array]
"""Whatever the steps carry along, such as an optimiser's moments."""
StepNumber: TypeAlias = Int[Array, ""]
"""Steps count from 0."""


@runtime_checkable
class Adapts(Protocol):
    """A predicate that tells which weights adapt."""

    def __call__(self, path: str, /) -> bool:
        """Whether the weight at `path`, such as `blocks/0/conv/kernel`, adapts."""


@runtime_checkable
class Start(Protocol):
    """The state of a task before its first step."""

    def __call__(
        self, meta: Meta, support: Batch, progress: Scalar, /
    ) -> tuple[Fast, Frozen, State]:
        """`(fast, frozen, state)`; `progress` through training is in [0, 1]."""


@runtime_checkable
class Weights(Protocol):
    """The network's weights within a task."""

    def __call__(self, fast: Fast, frozen: Frozen, step: StepNumber, /) -> Params:
        """The weights as the network takes them during that step."""


@runtime_checkable
class Update(Protocol):
    """One inner step."""

    def __call__(
        self, meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber, /
    ) -> tuple[Fast, State]:
        """`(fast, state)` after the step, given the gradient of the support loss in `fast`."""


class InnerRule(NamedTuple):
    """What adapts, from where, and by which steps: the first of the three choices."""

    init: Init
    """`init(params) -> meta`"""
    start: Start
    """`start(meta, support, progress) -> (fast, frozen, state)`"""
    weights: Weights
    """`weights(fast, frozen, step) -> params`"""
    update: Update
    """`update(meta, gradient, state, fast, step) -> (fast, state)`"""
    meta_keys: tuple[str, ...] = ()
    """The keys of the dict that `init` returns; none: it returns the weights as they are."""
    needs_classes: bool = False
    """Whether the support set's labels must be classes, whatever the loss takes."""


class ParamFilter(NamedTuple):
    """Splits weights into those that adapt and the others; None: all of them adapt."""

    adapts: Adapts | None

    def check(self, params: Params) -> Params:
        """`params`, or an `InputError` where the predicate matches none of them."""
        if self.adapts is not None:
            paths = list(by_path(params))
            if not any(map(self.adapts, paths)):
                raise InputError(
                    f"`adapts` matched no weight; the paths are {', '.join(paths)}: pass a "
                    "predicate on them."
                )
        return params

    def split(self, params: Params) -> tuple[Fast, Frozen]:
        """`(fast, frozen)`."""
        return (params, None) if self.adapts is None else partition(self.adapts, params)

    def join(self, fast: Fast, frozen: Frozen) -> Params:
        """The inverse of `split`."""
        return fast if self.adapts is None else combine(fast, frozen)
