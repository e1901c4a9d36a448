"""Meta-Curvature."""

from collections.abc import Sequence

import torch
from torch import Tensor

from parity.models import Forward, Weights
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean


def meta_curvature(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""Meta-Curvature: MAML along gradients times learned matrices (Park & Oliva 2019).

    $$\varphi_{k+1} = \varphi_k - \alpha\,
      \nabla L_S(\varphi_k) \times_1 M_o \times_2 M_i \times_3 M_f$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`, and the matrices as `curvature`, named like `head.weight/outputs`.
      tasks: the T tasks.
      inner_lr: α.
      inner_steps: K.
      optimizer: what takes the steps.
    """
    losses, trajectories, gradients, of_matrices = [], [], [], []
    for task in tasks:
        start, matrices = leaves(meta["params"]), leaves(meta["curvature"])
        fast, steps = start, Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            slope = gradient(support_loss, fast, create_graph=True)
            fast = steps.step(fast, {name: _bend(name, g, matrices) for name, g in slope.items()})
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        both = gradient(query_loss, {**start, **matrices})
        gradients.append({name: both[name] for name in start})
        of_matrices.append({name: both[name] for name in matrices})
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients), "curvature": mean(of_matrices)})


def _bend(name: str, slope: Tensor, matrices: Weights) -> Tensor:
    """A convolution's gradient is `[out, in, positions]`, a dense layer's `[out, in]`."""
    outputs = matrices[f"{name}/outputs"]
    if slope.ndim == 1:
        return outputs @ slope
    inputs = matrices[f"{name}/inputs"]
    if slope.ndim == 2:
        return outputs @ slope @ inputs.T
    positions = matrices[f"{name}/positions"]
    flat = slope.flatten(2)
    return torch.einsum("ao,bi,cp,oip->abc", outputs, inputs, positions, flat).reshape(slope.shape)
