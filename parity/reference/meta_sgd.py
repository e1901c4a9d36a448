"""Meta-SGD, and its first-order form."""

from collections.abc import Sequence
from functools import partial

from parity.models import Forward
from parity.reference.common import Groups, Loss, Result, Task, gradient, leaves, mean


def meta_sgd(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
    create_graph: bool = True,
) -> Result:
    r"""Meta-SGD: MAML with a learned rate for every weight (Li et al. 2017).

    $$\varphi_{k+1} = \varphi_k - a \circ \nabla L_S(\varphi_k), \qquad
      \tfrac1T \sum_t \tfrac{d}{d(\theta, a)} L_{Q_t}(\varphi_{t,K})$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params` and a as `rates`, by the names of the weights.
      tasks: the T tasks.
      inner_lr: where a starts; of no account here.
      inner_steps: K.
      optimizer: has no part in it.
      create_graph: False has the gradients constant, and the rates learn all the same.
    """
    del inner_lr, optimizer
    losses, trajectories, gradients, of_rates = [], [], [], []
    for task in tasks:
        start, rates = leaves(meta["params"]), leaves(meta["rates"])
        fast = start
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            slope = gradient(support_loss, fast, create_graph=create_graph)
            if not create_graph:
                slope = {name: g.detach() for name, g in slope.items()}
            fast = {name: weight - rates[name] * slope[name] for name, weight in fast.items()}
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        both = gradient(
            query_loss,
            {f"p {name}": w for name, w in start.items()}
            | {f"r {name}": r for name, r in rates.items()},
        )
        gradients.append({name: both[f"p {name}"] for name in start})
        of_rates.append({name: both[f"r {name}"] for name in rates})
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients), "rates": mean(of_rates)})


first_order_meta_sgd = partial(meta_sgd, create_graph=False)
"""Meta-SGD whose gradients, but not whose rates, are constants."""
