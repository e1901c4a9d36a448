"""Proto-MAML."""

from typing import Any

import optax

from maml_jax.core.estimators import inner_optimizer_from, unrolled
from maml_jax.core.rule import Adapts
from maml_jax.inner import descent, from_prototypes, without_head
from maml_jax.types import Apply, MetaLearner


def proto_maml(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    features: Apply | None = None,
    head: str = "head",
    **options: Any,
) -> MetaLearner:
    r"""Proto-MAML: MAML whose head starts, in each task, as a prototypical network's.

    $$c_n = \tfrac1{|S_n|}\sum_{x\in S_n} f_\theta(x), \qquad W_n = 2c_n, \qquad
      b_n = -\lVert c_n\rVert^2, \qquad \text{then as MAML}$$

    Triantafillou et al.: "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few
    Examples", ICLR 2020. The meta-gradient goes through the prototypes, in first order too.

    Args:
      apply: the model, `apply(params, x) -> logits`, the last layer of which is the `head`.
      inner_lr: α.
      inner_steps: K, the steps on the support set.
      inner_optimizer: any optax optimiser, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      features: `features(params, x) -> [examples, features]`, what the head sees; None: `apply`
        with the identity for the head's kernel, which Flax NNX models and functions allow.
      head: the path of the dense layer whose `kernel` and `bias` the prototypes replace.
      options: as in `maml`.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights (those of the head idle).

    Raises:
      InputError: as `maml`; labels that are not integers, for regression has no prototypes; from
        `init`, no such head, or one with a single output.
    """
    rule = descent(inner_optimizer_from(inner_lr, inner_optimizer), adapts)
    rule = from_prototypes(rule, features or without_head(apply, head), head)
    return unrolled(apply, rule, inner_steps=inner_steps, **options)
