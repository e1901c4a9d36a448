"""Reptile."""

from collections.abc import Sequence

from parity.models import Forward
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean


def reptile(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""Reptile: how far the inner steps move the weights (Nichol et al. 2018).

    $$\tfrac1T \sum_t \left(\theta - \varphi_{t,K}\right)$$

    Arguments and result are those of `maml`.
    """
    losses, trajectories, displacements = [], [], []
    for task in tasks:
        fast, steps = leaves(meta["params"]), Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            fast = leaves(steps.step(fast, gradient(support_loss, fast)))
            trajectory.append(fast)
        losses.append(loss(forward(fast, task.query_x), task.query_y).detach())
        displacements.append(
            {name: (meta["params"][name] - weight).detach() for name, weight in fast.items()}
        )
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(displacements)})
