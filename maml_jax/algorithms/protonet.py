"""Prototypical networks."""

import optax

from maml_jax.core.objectives import supervised
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import descent, from_prototypes, without_head
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def protonet(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 0,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    features: Apply | None = None,
    head: str = "head",
) -> MetaLearner:
    r"""ProtoNet: the class of the nearest prototype, with no inner gradient at all.

    $$c_n = \tfrac1{|S_n|}\sum_{x\in S_n} f_\theta(x), \qquad
      p(n\mid x) \propto \exp\!\left(-\lVert f_\theta(x)-c_n\rVert^2\right)$$

    Snell, Swersky, Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017. It is
    Proto-MAML without steps: its logits $2c_n^\top f - \lVert c_n\rVert^2$ differ from the squared
    distances by $\lVert f\rVert^2$, the same for every class.

    Args:
      apply: as in `proto_maml`.
      inner_lr: taken and not used, so that it can stand where the other algorithms do.
      inner_steps: taken and not used: further steps change nothing.
      loss: as in `maml`.
      query_loss: as in `maml`.
      features: as in `proto_maml`.
      head: as in `proto_maml`.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights (those of the head idle).

    Raises:
      InputError: as `proto_maml`.
    """
    del inner_lr, inner_steps
    return unrolled(
        supervised(apply, loss, query_loss),
        from_prototypes(descent(optax.sgd(0.0)), features or without_head(apply, head), head),
        name="protonet",
        inner_steps=0,
    )
