"""MAML, FOMAML, and the two forms of MAML that adapt a part of the network."""

from collections.abc import Callable, Sequence
from functools import partial

from parity.models import Forward
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean


def maml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
    adapts: Callable[[str], bool] = lambda name: True,
) -> Result:
    r"""MAML: the gradient of the query loss through every inner step (Finn et al. 2017).

    $$\varphi_0 = \theta, \qquad \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k), \qquad
      \tfrac1T \sum_t \tfrac{d}{d\theta} L_{Q_t}(\varphi_{t,K})$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`, left as they are.
      tasks: the T tasks.
      inner_lr: α.
      inner_steps: K.
      optimizer: what takes the inner steps.
      adapts: which weights move, by their names.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        start = leaves(meta["params"])
        fast, steps = start, Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            moving = {name: weight for name, weight in fast.items() if adapts(name)}
            # The graph of the gradient itself is what makes the outer gradient second-order.
            slope = gradient(support_loss, moving, create_graph=True)
            fast = {**fast, **steps.step(moving, slope)}
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        gradients.append(gradient(query_loss, start))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients)})


def fomaml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""FOMAML: the gradient of the query loss at the adapted weights (Finn et al. 2017, §5.2).

    $$\tfrac1T \sum_t \nabla L_{Q_t}(\varphi)\big|_{\varphi = \varphi_{t,K}}$$

    Arguments and result are those of `maml`.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        fast, steps = leaves(meta["params"]), Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            fast = leaves(steps.step(fast, gradient(support_loss, fast)))
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        gradients.append(gradient(query_loss, fast))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients)})


anil = partial(maml, adapts=lambda name: name.startswith("head."))
"""ANIL: the head alone adapts (Raghu et al. 2020)."""
boil = partial(maml, adapts=lambda name: not name.startswith("head."))
"""BOIL: the head alone does not adapt (Oh et al. 2021)."""
