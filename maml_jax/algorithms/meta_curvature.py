"""Meta-Curvature."""

import optax

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.inner import curvature, inner_optimizer_from
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def meta_curvature(
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
) -> MetaLearner:
    r"""Meta-Curvature: MAML along gradients that learned matrices precondition.

    $$\varphi_{k+1} = \varphi_k - \alpha\,
      \nabla L_S(\varphi_k) \times_1 M_o \times_2 M_i \times_3 M_f$$

    with, for each layer, a matrix over its outputs, one over its inputs and one over the kernel's
    positions, all meta-learned from the identity. Park, Oliva: "Meta-Curvature", NeurIPS 2019 (its
    MC2). Arguments and errors are those of `maml`.

    Returns:
      A `MetaLearner`; its meta-parameters are `{"params": weights, "curvature": {path: {axis:
      matrix}}}` with the axes `outputs`, `inputs` and `positions`, as far as a layer has them.
    """
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        curvature(inner_optimizer_from(inner_lr, inner_optimizer, differentiated=True), adapts),
        name="meta_curvature",
        inner_steps=inner_steps,
        differentiate=differentiate,
    )
