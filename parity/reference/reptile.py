"""Reptile."""

from parity.reference import Comparison
from parity.torch_tools import (
    Forward,
    Groups,
    Loss,
    Optimizer,
    Task,
    TaskResult,
    Weights,
    gradient,
    leaves,
)


def reptile(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""Reptile: how far the inner steps move the weights (Nichol et al. 2018).

    $$\theta - \varphi_K$$

    Arguments and result are those of `maml`.
    """
    fast, inner = leaves(meta["params"]), Optimizer(optimizer, inner_lr)
    trajectory = [fast]
    for _ in range(inner_steps):
        support_loss = loss(forward(fast, task.support_x), task.support_y)
        fast = leaves(inner.step(fast, gradient(support_loss, fast)))
        trajectory.append(fast)
    query_loss = loss(forward(fast, task.query_x), task.query_y)
    return TaskResult(query_loss, trajectory, {"params": displacement(meta["params"], fast)})


def displacement(start: Weights, fast: Weights) -> Weights:
    """θ − φ, weight by weight."""
    return {name: (weight - fast[name]).detach() for name, weight in start.items()}


COMPARISONS = (Comparison(reptile),)
