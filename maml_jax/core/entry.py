"""The functions of a learner as users call them: checked, then run as one compiled program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from maml_jax.core.checks import (
    check_arrays,
    check_axis_of_examples,
    check_batch,
    check_beside,
    check_episode,
    check_integers,
    check_labels,
    check_meta,
    check_weights,
    first_task,
    has_one_axis,
    known,
    takes_classes,
)
from maml_jax.errors import InputError, check_count
from maml_jax.kernels.jax_internals import in_forward_mode, vary_like
from maml_jax.types import (
    Batch,
    Data,
    Episode,
    Examples,
    Loss,
    Meta,
    MetaLearner,
    Metrics,
    Params,
    RandomKey,
    Scalar,
    ValueAndGrad,
)

StartOutputs = Callable[[Meta, Batch, Examples], Examples]
"""`start_outputs(meta, support, x)`: what the network computes before the first step."""


class _Labels(NamedTuple):
    """What a batch and its labels must be."""

    loss: Loss
    outputs: StartOutputs
    needs_classes: bool = False
    """Whether they must be classes even where the loss takes others."""

    def check(
        self, name: str, meta: Meta, support: Batch, batch: Batch, labels: Batch | None = None
    ) -> None:
        """An `InputError` where `batch` has no axis of examples, or labels that are no classes.

        `labels` holds them, of any shape, where those of `batch` are shapes alone.
        """
        check_batch(name, batch)
        y = batch.y if labels is None else labels.y
        if self.needs_classes:
            check_integers(f"{name}.y", y)
        with_classes = self.needs_classes or takes_classes(self.loss)
        with_classes = with_classes and known(y) is not None
        if not with_classes and not has_one_axis(batch.x):
            return  # for it is traced, if only for its shapes
        check_axis_of_examples(name, lambda x: self.outputs(meta, support, x), batch.x)
        if with_classes:
            outputs = jax.eval_shape(self.outputs, meta, support, batch.x)
            if hasattr(outputs, "shape") and outputs.shape:
                check_labels(f"{name}.y", y, outputs.shape[-1])


class _Arrays(NamedTuple):
    """Where objectives of one's own take any pytree: it must be of arrays."""

    def check(
        self, name: str, meta: Meta, support: Data, batch: Data, labels: Data | None = None
    ) -> None:
        """An `InputError` where a leaf of `batch` is no array."""
        del meta, support, labels
        check_arrays(name, batch)


@dataclass(frozen=True, eq=False)
class CheckedValueAndGrad:
    """As `types.ValueAndGrad`."""

    compiled: ValueAndGrad
    meta_keys: tuple[str, ...]
    takes_key: bool
    of_support: _Labels | _Arrays
    of_query: _Labels | _Arrays

    def __call__(
        self,
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        check_meta(meta, self.meta_keys)
        check_episode(episode, of_batches=self.of_batches)
        _check_key(self.takes_key, key)
        self._check(meta, episode)
        # Marked before it is differentiated: the meta-gradient is that of this task alone.
        return self.compiled(vary_like(meta, episode), episode, progress, **_given(key))

    @property
    def of_batches(self) -> bool:
        """Whether support and query set must be `Batch`es."""
        return isinstance(self.of_support, _Labels)

    def check_tasks(self, meta: Meta, episodes: Episode) -> None:
        """The same checks of a batch of episodes, whose labels are known before they are dealt."""
        check_meta(meta, self.meta_keys)
        self._check(meta, first_task(episodes), *episodes)

    def _check(self, meta: Meta, one: Episode, *labels: Data) -> None:
        of_support, of_query = labels or (None, None)
        self.of_support.check("support", meta, one.support, one.support, of_support)
        self.of_query.check("query", meta, one.support, one.query, of_query)


def entry_points(
    learner: MetaLearner,
    start_outputs: StartOutputs,
    *,
    meta_keys: tuple[str, ...] = (),
    needs_classes: bool = False,
    query_loss: Loss | None = None,
    reverse_only: Callable[[int | None], bool] = lambda steps: False,
    training_outputs: StartOutputs | None = None,
) -> MetaLearner:
    """`learner` with its functions checked, and compiled once for each set of shapes.

    So a plain Python loop over tasks takes no longer, and no more memory, from call to call: `scan`
    compiles anew for every new function that it gets. Under a transformation of JAX's the compiled
    function is traced into the caller's program, as if it were not there.

    Args:
      learner: the functions as they are.
      start_outputs: the network's outputs before the first step; of them only shapes are used.
      meta_keys: the keys of the meta-parameters; none: they are the weights.
      needs_classes: the support set's labels must be classes, whatever the loss takes.
      query_loss: the meta-objective; None: the learner's loss.
      reverse_only: whether so many inner steps have no forward-mode derivative.
      training_outputs: as `start_outputs`, of what `value_and_grad` compares with the labels, where
        that is something else.
    """
    start_outputs = jax.jit(start_outputs)  # of which JAX remembers the shapes
    training = start_outputs if training_outputs is None else jax.jit(training_outputs)
    apply, takes_key = learner.predict, learner.takes_key
    of_support, in_training, of_query = (
        (
            _Labels(learner.loss, start_outputs, needs_classes),
            _Labels(learner.loss, training, needs_classes),
            _Labels(learner.loss if query_loss is None else query_loss, training),
        )
        if not takes_key
        else (_Arrays(),) * 3
    )

    def check(
        meta: Meta, support: Data, steps: int | None, key: RandomKey | None = None
    ) -> int | None:
        steps = None if steps is None else check_count("steps", steps, least=0)
        check_meta(meta, meta_keys)
        _check_mode(reverse_only(steps), (meta, support))
        _check_key(takes_key, key)
        of_support.check("support", meta, support, support)
        return steps

    def init(params: Params) -> Meta:
        check_weights("params", params)
        return learner.init(params)

    # Not inlined: `jax.grad` through it, outside of `jit`, would compile the steps at each call.
    adapt_compiled = jax.jit(learner.adapt, static_argnums=2)
    trajectory_compiled = jax.jit(learner.trajectory, static_argnums=2)
    classify_compiled = jax.jit(
        learner.classify, static_argnames=("transductive", "steps"), inline=True
    )
    predict_compiled = jax.jit(lambda fast, x: apply(fast, x), inline=True)

    def adapt(
        meta: Meta, support: Data, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        steps = check(meta, support, steps, key)
        return adapt_compiled(vary_like(meta, support), support, steps, **_given(key))

    def trajectory(
        meta: Meta, support: Data, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        steps = check(meta, support, steps, key)
        return trajectory_compiled(vary_like(meta, support), support, steps, **_given(key))

    def predict(fast: Params, x: Examples, /) -> Examples:
        return predict_compiled(fast, x)

    def classify(
        meta: Meta,
        support: Batch,
        x: Examples,
        *,
        transductive: bool = False,
        steps: int | None = None,
        key: RandomKey | None = None,
    ) -> Examples:
        steps = check(meta, support, steps, key)
        if not transductive:
            check_batch("support", support)
            check_beside(support.x, x)
        meta = vary_like(meta, (support, x))
        return classify_compiled(
            meta, support, x, transductive=bool(transductive), steps=steps, **_given(key)
        )

    return learner._replace(
        init=init,
        adapt=adapt,
        trajectory=trajectory,
        predict=predict,
        classify=classify,
        value_and_grad=CheckedValueAndGrad(
            jax.jit(learner.value_and_grad, inline=True),
            meta_keys,
            takes_key,
            in_training,
            of_query,
        ),
    )


def _given(key: RandomKey | None) -> dict[str, RandomKey]:
    """The keyword, for learners that have it."""
    return {} if key is None else {"key": key}


def _check_key(takes_key: bool, key: RandomKey | None) -> None:
    """An `InputError` where a key would be ignored."""
    if key is not None and not takes_key:
        raise InputError(
            "`key` was given, and this learner's loss draws nothing; `mj.bilevel` takes objectives "
            "that do."
        )


def _check_mode(reverse_only: bool, tree: Any) -> None:
    """An `InputError` where forward mode is asked of what only reverse mode can do."""
    if reverse_only and in_forward_mode(tree):
        raise InputError(
            '`differentiate` was "mixed", which has no forward-mode derivative (`jax.jvp`, '
            '`jax.jacfwd`) at two inner steps or more; pass `differentiate="reverse"`.'
        )
