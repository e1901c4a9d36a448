"""Meta-Curvature."""

from typing import Any

import optax

from maml_jax.core.estimators import inner_optimizer_from, unrolled
from maml_jax.core.rule import Adapts
from maml_jax.inner import curvature
from maml_jax.types import Apply, MetaLearner


def meta_curvature(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    **options: Any,
) -> MetaLearner:
    r"""Meta-Curvature: MAML along gradients that learned matrices have bent.

    $$\varphi_{k+1} = \varphi_k - \alpha\,
      \nabla L_S(\varphi_k) \times_1 M_o \times_2 M_i \times_3 M_f$$

    with, for each layer, a matrix over its outputs, one over its inputs and one over the kernel's
    positions, all meta-learned from the identity. Park, Oliva: "Meta-Curvature", NeurIPS 2019 (its
    MC2). Arguments and errors are those of `maml`.

    Returns:
      A `MetaLearner`; its meta-parameters are `{"params": weights, "curvature": {path: {axis:
      matrix}}}` with the axes `outputs`, `inputs` and `positions`, as far as a layer has them.
    """
    rule = curvature(inner_optimizer_from(inner_lr, inner_optimizer), adapts)
    return unrolled(apply, rule, inner_steps=inner_steps, **options)
