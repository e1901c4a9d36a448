"""The vocabulary: what a task is, what a model and a loss are, and what a learner can do."""

from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
from jaxtyping import Array, Float, Key, PyTree, Shaped

Params: TypeAlias = PyTree[Array]
"""The weights of a network."""
Meta: TypeAlias = PyTree[Array]
"""Everything that the outer loop learns. For MAML it is the `Params`."""
Examples: TypeAlias = PyTree[Shaped[Array, "_ ..."]]
"""One array, or a pytree of arrays, whose leading axis counts the examples."""
Scalar: TypeAlias = Float[Array, ""]
Metrics: TypeAlias = dict[str, Scalar]
RandomKey: TypeAlias = Key[Array, ""]
Data: TypeAlias = PyTree[Array]
"""What an objective is computed on: a `Batch`, or any pytree of arrays."""


@runtime_checkable
class Apply(Protocol):
    """A model as a pure function of its weights."""

    def __call__(self, params: Params, x: Examples, /) -> Examples:
        """The outputs for the examples `x`; for classification logits, `[examples, ways]`."""


@runtime_checkable
class Loss(Protocol):
    """A loss, a mean over the examples."""

    def __call__(self, outputs: Examples, y: Examples, /) -> Scalar:
        """The loss of the model's `outputs` against the labels or targets `y`."""


class Batch(NamedTuple):
    """Examples `x` and their labels or targets `y`; the leading axis of both counts them."""

    x: Examples
    y: Examples

    def __repr__(self) -> str:
        return f"Batch(x={_shapes(self.x)}, y={_shapes(self.y)})"


class Episode(NamedTuple):
    """One task: the `support` set to adapt on and the `query` set to be tested on.

    Both are `Batch`es, but for objectives of one's own (`mj.bilevel`), which take any pytrees of
    arrays. With one more leading axis on every array it is a batch of episodes.
    """

    support: Data
    query: Data


@runtime_checkable
class Adapt(Protocol):
    """Adaptation to one task."""

    def __call__(
        self, meta: Meta, support: Data, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        """The network's weights after `steps` inner steps on the support set.

        Args:
          meta: the meta-parameters.
          support: the support set of one task, `[examples, …]`.
          steps: how many inner steps, at least 0; None: as many as in training.
          key: what the inner objective draws from, for learners of `mj.bilevel`.
        """


@runtime_checkable
class Classify(Protocol):
    """Outputs for new examples of one task."""

    def __call__(
        self,
        meta: Meta,
        support: Batch,
        x: Examples,
        *,
        transductive: bool = False,
        steps: int | None = None,
        key: RandomKey | None = None,
    ) -> Examples:
        """Adapt to `support`, then compute the outputs for each example of `x`.

        Args:
          meta: the meta-parameters.
          support: the support set of one task, `[examples, …]`.
          x: new examples, `[examples, …]`.
          transductive: False: each example goes through the network beside the support set alone,
            so that its outputs depend on no other example. True: all of `x` go through together,
            which a network with batch norm over the current batch answers differently (both are in
            Nichol et al. 2018, §6.1).
          steps: as in `Adapt`.
          key: as in `Adapt`.

        Returns:
          The outputs, `[examples, …]`.
        """


@runtime_checkable
class ValueAndGrad(Protocol):
    """The query loss of one task and its meta-gradient."""

    def __call__(
        self,
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        """`((query loss, metrics), meta-gradient)`.

        Args:
          meta: the meta-parameters.
          episode: one task.
          progress: from 0 to 1 through training, for algorithms that have a schedule.
          key: what the objectives draw from, for learners of `mj.bilevel`.

        Returns:
          The loss, the metrics (`loss`; `accuracy` where labels are classes) and the meta-gradient,
          a pytree like `meta`.
        """


@runtime_checkable
class Predict(Protocol):
    """The adapted network."""

    def __call__(self, fast: Params, x: Examples, /) -> Examples:
        """The outputs of the network with the weights `fast`, exactly as it is.

        Batch norm over the current batch sees `x` alone, so the outputs for one example depend on
        the others in `x`, and one example by itself is normalised to zero. `classify` avoids that.
        """


@runtime_checkable
class Init(Protocol):
    """The start of meta-training."""

    def __call__(self, params: Params, /) -> Meta:
        """The meta-parameters that start from the network weights `params`."""


class MetaLearner(NamedTuple):
    """A few-shot learner as pure functions of one task, to be `vmap`ped and `jit`ted at will."""

    init: Init
    """`init(params) -> meta`: the meta-parameters that start from these network weights."""
    adapt: Adapt
    """`adapt(meta, support, steps=None) -> fast weights`."""
    trajectory: Adapt
    """Like `adapt`, with the weights after 0, 1, …, `steps` inner steps on a new leading axis."""
    predict: Predict
    """`predict(fast, x) -> outputs` of the adapted network as it is; see `Predict` on batch norm,
    and `classify` for the safe way."""
    classify: Classify
    """`classify(meta, support, x, transductive=False) -> outputs` for new examples of a task."""
    value_and_grad: ValueAndGrad
    """`value_and_grad(meta, episode, progress=1.0) -> ((query loss, metrics), meta-gradient)`."""
    loss: Loss
    """The loss that it learns by."""
    description: str
    """The algorithm and its main settings, for people."""
    takes_key: bool = False
    """Whether `adapt`, `trajectory` and `value_and_grad` take a `key`."""

    def __repr__(self) -> str:
        return f"MetaLearner({self.description})"


def _shapes(tree: Examples) -> str:
    """`float32[5,28,28,1]` for one array; a pytree of them as Python writes it."""

    def one(leaf: object) -> object:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            return leaf
        return _Text(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]")

    return repr(jax.tree.map(one, tree))


class _Text(str):
    """A string that shows itself without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
