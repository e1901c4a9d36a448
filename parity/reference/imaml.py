"""MAML with implicit gradients."""

from collections.abc import Sequence

import torch

from parity.models import Forward, Weights
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean

STRENGTH = 2.0
DAMPING = 1000.0
SOLVER_STEPS = 2


def imaml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""iMAML: an implicit gradient at the end of proximal descent (Rajeswaran et al. 2019).

    $$\varphi_{k+1} = \varphi_k - \alpha\left(\nabla L_S(\varphi_k)
      + \lambda(\varphi_k - \theta)\right), \qquad
      \left((1 + d) I + \tfrac1\lambda H\right) v = \nabla L_Q(\varphi_K)$$

    with λ = 2, the damping d = 1000, and two steps of conjugate gradients from zero for v. At
    weights that are no minimum H has negative eigenvalues. Where the matrix has any, conjugate
    gradients may divide by almost nothing, and multiply the rounding of either side: on the
    sinusoid this matrix had some with d = 300 still. H makes up a part in a thousand to a half of
    it, so that 1e-10 of v asks for seven digits of H at least.

    Arguments and result are those of `maml`.
    """
    losses, trajectories, solutions = [], [], []
    for task in tasks:
        start = meta["params"]
        fast, steps = leaves(start), Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            slope = gradient(loss(forward(fast, task.support_x), task.support_y), fast)
            pulled = {
                name: slope[name] + STRENGTH * (weight - start[name])
                for name, weight in fast.items()
            }
            fast = leaves(steps.step(fast, pulled))
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        b = _vector(gradient(query_loss, fast))
        slope = gradient(
            loss(forward(fast, task.support_x), task.support_y), fast, create_graph=True
        )
        flat_slope = torch.cat([g.reshape(-1) for g in slope.values()])

        def matrix(p, flat_slope=flat_slope, fast=fast):
            curved = torch.autograd.grad(flat_slope @ p, list(fast.values()), retain_graph=True)
            hessian_p = torch.cat([part.reshape(-1) for part in curved])
            return (1 + DAMPING) * p + hessian_p / STRENGTH

        v = torch.zeros_like(b)
        r = b
        p = b
        for _ in range(SOLVER_STEPS):
            a = matrix(p)
            rate = (r @ r) / (p @ a)
            v = v + rate * p
            new = r - rate * a
            p = new + (new @ new) / (r @ r) * p
            r = new
        parts = torch.split(v, [weight.numel() for weight in fast.values()])
        solutions.append(
            {
                name: part.reshape(weight.shape)
                for (name, weight), part in zip(fast.items(), parts, strict=True)
            }
        )
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(solutions)})


def _vector(weights: Weights) -> torch.Tensor:
    return torch.cat([weight.detach().reshape(-1) for weight in weights.values()])
