"""CAVIA."""

from collections.abc import Sequence

import torch

from parity.models import Forward
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean


def cavia(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""CAVIA: a context vector adapts, from zero (Zintgraf et al. 2019).

    $$c_0 = 0, \qquad c_{k+1} = c_k - \alpha\nabla_c L_S(\theta + c_k^\top P), \qquad
      \tfrac1T \sum_t \tfrac{d}{d(\theta, P)} L_{Q_t}(\theta + c_{t,K}^\top P)$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`, and for each weight that the context shifts its map P `[context, size]`
        as `projections`.
      tasks: the T tasks.
      inner_lr: α.
      inner_steps: K.
      optimizer: what moves the context.
    """
    losses, trajectories, gradients, of_maps = [], [], [], []
    for task in tasks:
        weights, maps = leaves(meta["params"]), leaves(meta["projections"])

        def shifted(c, weights=weights, maps=maps):
            return {
                name: weight + c @ maps[name] if name in maps else weight
                for name, weight in weights.items()
            }

        projection = next(iter(maps.values()))
        c = torch.zeros(len(projection), dtype=projection.dtype, requires_grad=True)
        steps = Optimizer(optimizer, inner_lr)
        trajectory = [shifted(c)]
        for _ in range(inner_steps):
            support_loss = loss(forward(shifted(c), task.support_x), task.support_y)
            slope = gradient(support_loss, {"c": c}, create_graph=True)
            c = steps.step({"c": c}, slope)["c"]
            trajectory.append(shifted(c))
        query_loss = loss(forward(shifted(c), task.query_x), task.query_y)
        both = gradient(
            query_loss,
            {f"w {name}": w for name, w in weights.items()}
            | {f"m {name}": m for name, m in maps.items()},
        )
        gradients.append({name: both[f"w {name}"] for name in weights})
        of_maps.append({name: both[f"m {name}"] for name in maps})
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients), "projections": mean(of_maps)})
