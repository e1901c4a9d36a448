"""Pre-training and fine-tuning."""

import torch

from parity.reference import Comparison
from parity.reference.fomaml import fomaml
from parity.torch_tools import Forward, Groups, Loss, Task, TaskResult, gradient, leaves


def pretrained(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""Training on the support and the query set alike; then plain fine-tuning.

    $$\nabla L_{S \cup Q}(\theta)$$

    Arguments and result are those of `maml`; the loss is that of the training.
    """
    weights = leaves(meta["params"])
    x = torch.cat([task.support_x, task.query_x])
    y = torch.cat([task.support_y, task.query_y])
    training_loss = loss(forward(weights, x), y)
    tuned = fomaml(
        forward, loss, meta, task, inner_lr=inner_lr, inner_steps=inner_steps, optimizer=optimizer
    )
    slope = gradient(training_loss, weights)
    return TaskResult(training_loss, tuned.trajectory, {"params": slope})


COMPARISONS = (Comparison(pretrained),)
