"""Prototypical networks."""

from typing import Any

from maml_jax.algorithms.proto_maml import proto_maml
from maml_jax.types import Apply, MetaLearner


def protonet(
    apply: Apply, inner_lr: float = 0.0, inner_steps: int = 0, **options: Any
) -> MetaLearner:
    r"""ProtoNet: the class of the nearest prototype, with no inner gradient at all.

    $$c_n = \tfrac1{|S_n|}\sum_{x\in S_n} f_\theta(x), \qquad
      p(n\mid x) \propto \exp\!\left(-\lVert f_\theta(x)-c_n\rVert^2\right)$$

    Snell, Swersky, Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017. It is
    Proto-MAML without steps: its logits $2c_n^\top f - \lVert c_n\rVert^2$ differ from the squared
    distances by $\lVert f\rVert^2$, the same for every class. `inner_lr` and `inner_steps` are
    taken and not used, so that it can stand where the others do: further steps change nothing.
    `loss`, `query_loss`, `features`, `head`, result and errors are those of `proto_maml`.
    """
    del inner_lr, inner_steps
    return proto_maml(apply, 0.0, 0, **options)
