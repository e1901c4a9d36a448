"""Proto-MAML, its first-order form, and ProtoNet."""

from collections.abc import Sequence
from functools import partial

import torch

from parity.models import Forward
from parity.reference.common import Groups, Loss, Optimizer, Result, Task, gradient, leaves, mean


def proto_maml(
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
    r"""Proto-MAML: MAML from the head W = 2c, b = −‖c‖² (Triantafillou et al. 2020).

    c are the means over the support examples of each class of what the head sees; the meta-gradient
    goes through them. The meta-learned head has no part in it, and a gradient of zero.

    Args:
      forward: the network, whose last layer is `head`.
      loss: a mean over examples.
      meta: θ as `params`.
      tasks: the T tasks.
      inner_lr: α.
      inner_steps: K.
      optimizer: what takes the inner steps.
      create_graph: False has the inner gradients constant; the prototypes never are.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        body = leaves({n: w for n, w in meta["params"].items() if not n.startswith("head.")})
        old = meta["params"]["head.weight"]
        plain = {
            "head.weight": torch.eye(old.shape[1], dtype=old.dtype),
            "head.bias": torch.zeros(old.shape[1], dtype=old.dtype),
        }
        features = forward({**body, **plain}, task.support_x)
        prototypes = torch.stack(
            [features[task.support_y == n].mean(0) for n in range(old.shape[0])]
        )
        head = {"head.weight": 2 * prototypes, "head.bias": -(prototypes**2).sum(1)}
        # Each weight anew, for the head was made from the body: the inner gradient in the body
        # itself would go through the prototypes as well, and adapt by another direction.
        fast = {
            name: (body[name] if name in body else head[name]).clone() for name in meta["params"]
        }
        steps = Optimizer(optimizer, inner_lr)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            slope = gradient(support_loss, fast, create_graph=True)
            if not create_graph:
                slope = {name: g.detach() for name, g in slope.items()}
            fast = steps.step(fast, slope)
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        found = gradient(query_loss, body)
        gradients.append(
            {
                name: found[name] if name in found else torch.zeros_like(weight)
                for name, weight in meta["params"].items()
            }
        )
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients)})


first_order_proto_maml = partial(proto_maml, create_graph=False)
"""Proto-MAML whose inner gradients are constants."""


def protonet(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    """ProtoNet: `proto_maml` without inner steps (Snell et al. 2017)."""
    del inner_steps
    return proto_maml(
        forward, loss, meta, tasks, inner_lr=inner_lr, inner_steps=0, optimizer=optimizer
    )
