"""CAVIA."""

import torch

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
    gradient_by_group,
    leaves,
)


def cavia(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""CAVIA: a context vector adapts, from zero (Zintgraf et al. 2019).

    $$c_0 = 0, \qquad c_{k+1} = c_k - \alpha\nabla_c L_S(\theta + c_k^\top P), \qquad
      \tfrac{d}{d(\theta, P)} L_Q(\theta + c_K^\top P)$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`, and for each weight that the context shifts its map P `[context, size]`
        as `projections`.
      task: S and Q.
      inner_lr: α.
      inner_steps: K.
      optimizer: the optimizer of the context.
    """
    weights, maps = leaves(meta["params"]), leaves(meta["projections"])

    def shifted(c: torch.Tensor) -> Weights:
        return {
            name: weight + c @ maps[name] if name in maps else weight
            for name, weight in weights.items()
        }

    projection = next(iter(maps.values()))
    c = torch.zeros(len(projection), dtype=projection.dtype, requires_grad=True)
    inner = Optimizer(optimizer, inner_lr)
    trajectory = [shifted(c)]
    for _ in range(inner_steps):
        support_loss = loss(forward(shifted(c), task.support_x), task.support_y)
        slope = gradient(support_loss, {"c": c}, create_graph=True)
        c = inner.step({"c": c}, slope)["c"]
        trajectory.append(shifted(c))
    query_loss = loss(forward(shifted(c), task.query_x), task.query_y)
    slopes = gradient_by_group(query_loss, {"params": weights, "projections": maps})
    return TaskResult(query_loss, trajectory, slopes)


COMPARISONS = (Comparison(cavia, options={"context_size": 7}),)
