"""Pre-training and fine-tuning."""

from collections.abc import Sequence

import torch

from parity.models import Forward
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean


def pretrained(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""Training on all tasks together, support and query sets alike; then plain fine-tuning.

    $$\tfrac1T \sum_t \nabla L_{S_t \cup Q_t}(\theta)$$

    Arguments and result are those of `maml`; the losses are those of the training.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        weights = leaves(meta["params"])
        x = torch.cat([task.support_x, task.query_x])
        y = torch.cat([task.support_y, task.query_y])
        value = loss(forward(weights, x), y)
        gradients.append(gradient(value, weights))
        losses.append(value.detach())
        fast, steps = leaves(meta["params"]), Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            fast = leaves(steps.step(fast, gradient(support_loss, fast)))
            trajectory.append(fast)
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients)})
