"""Proto-MAML."""

import optax

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import descent, from_prototypes, inner_optimizer_from, without_head
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def proto_maml(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
    features: Apply | None = None,
    head: str = "head",
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
      loss: as in `maml`.
      query_loss: as in `maml`.
      inner_optimizer: any optax optimiser, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      differentiate: as in `maml`.
      batch_size: as in `maml`.
      features: `features(params, x) -> [examples, features]`, the input of the head; None: `apply`
        with the identity for the head's kernel, which Flax NNX models and functions allow.
      head: the path of the dense layer whose `kernel` and `bias` the prototypes replace.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights (those of the head idle).

    Raises:
      InputError: as `maml`; labels that are not integers, for regression has no prototypes; from
        `init`, no such head, or one with a single output.
    """
    rule = descent(
        inner_optimizer_from(
            inner_lr, inner_optimizer, differentiated=differentiate != "first_order"
        ),
        adapts,
    )
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        from_prototypes(rule, features or without_head(apply, head), head),
        name="proto_maml",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
