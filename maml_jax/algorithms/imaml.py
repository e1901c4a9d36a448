"""MAML with implicit gradients."""

import optax

from maml_jax.core.implicit import Solver, implicit
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.errors import check_number
from maml_jax.inner import descent, inner_optimizer_from, proximal
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner


def imaml(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 16,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    regularization: float = 2.0,
    solver: Solver = "cg",
    solver_steps: int = 5,
    damping: float = 0.0,
    neumann_rate: float = 1.0,
) -> MetaLearner:
    r"""iMAML: the derivative of the regularised minimum, whichever way it was reached.

    $$\varphi^* = \arg\min_\varphi L_S(\varphi) + \tfrac\lambda2\lVert\varphi-\theta\rVert^2, \qquad
      \left(I + \tfrac1\lambda\nabla^2 L_S(\varphi^*)\right)\, \text{meta-gradient}
      = \nabla L_Q(\varphi^*)$$

    Rajeswaran, Finn, Kakade, Levine: "Meta-Learning with Implicit Gradients", NeurIPS 2019. Memory
    does not depend on the number of steps. The metric `solver_residual` is the norm of the
    equation's residual over that of its right side.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: the rate of gradient descent towards φ*.
      inner_steps: how many steps of it, in training and at test.
      loss: as in `maml`.
      query_loss: as in `maml`.
      inner_optimizer: any optax optimiser towards φ*, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      regularization: λ, above 0.
      solver: `"cg"`, conjugate gradients, as far as the matrix is positive along them, or
        `"neumann"`, v ← v + η(b − Av).
      solver_steps: how many iterations of it.
      damping: added to the matrix as a multiple of the identity, for Hessians with large negative
        eigenvalues.
      neumann_rate: η. 1 is the Neumann series, for λ above every eigenvalue of the Hessian;
        αλ converges wherever the inner descent at rate α does.

    Returns:
      A `MetaLearner`; its meta-parameters are the network's weights.

    Raises:
      InputError: as `maml`; λ or η not above 0, an unknown `solver`, no `solver_steps`, negative
        `damping`.
    """
    regularization = check_number("regularization", regularization, above_zero=True)
    return implicit(
        proximal(supervised(apply, loss, query_loss), regularization),
        descent(inner_optimizer_from(inner_lr, inner_optimizer), adapts),
        name="imaml",
        scale=regularization,
        solver=solver,
        solver_steps=solver_steps,
        damping=damping,
        neumann_rate=neumann_rate,
        inner_steps=inner_steps,
    )
