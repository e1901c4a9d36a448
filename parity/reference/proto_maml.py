"""Proto-MAML, and its first-order form."""

from functools import partial

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
    leaves,
)


def proto_maml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
    create_graph: bool = True,
) -> TaskResult:
    r"""Proto-MAML: MAML from the head W = 2c, b = −‖c‖² (Triantafillou et al. 2020).

    c are the means, over the support examples of each class, of what the head sees; the
    meta-gradient goes through them. The meta-learned head is not used: its gradient is zero.

    Args:
      forward: the network, whose last layer is `head`.
      loss: a mean over examples.
      meta: θ as `params`.
      task: S and Q.
      inner_lr: α.
      inner_steps: K.
      optimizer: the inner optimizer.
      create_graph: False takes the inner gradients for constants, but not the prototypes.
    """
    body = leaves({n: w for n, w in meta["params"].items() if not n.startswith("head.")})
    head = _prototype_head(forward, body, meta["params"]["head.weight"], task)
    # Clones, because the head depends on the body: the inner gradient by the body itself would go
    # through the prototypes as well, and adapt in another direction.
    fast = {name: (body[name] if name in body else head[name]).clone() for name in meta["params"]}
    inner = Optimizer(optimizer, inner_lr)
    trajectory = [fast]
    for _ in range(inner_steps):
        support_loss = loss(forward(fast, task.support_x), task.support_y)
        slope = gradient(support_loss, fast, create_graph=True)
        if not create_graph:
            slope = {name: g.detach() for name, g in slope.items()}
        fast = inner.step(fast, slope)
        trajectory.append(fast)
    query_loss = loss(forward(fast, task.query_x), task.query_y)
    slope = gradient(query_loss, body)
    whole = {
        name: slope[name] if name in slope else torch.zeros_like(weight)
        for name, weight in meta["params"].items()
    }
    return TaskResult(query_loss, trajectory, {"params": whole})


def _prototype_head(forward: Forward, body: Weights, old: torch.Tensor, task: Task) -> Weights:
    identity = {
        "head.weight": torch.eye(old.shape[1], dtype=old.dtype),
        "head.bias": torch.zeros(old.shape[1], dtype=old.dtype),
    }
    features = forward({**body, **identity}, task.support_x)
    prototypes = torch.stack([features[task.support_y == n].mean(0) for n in range(old.shape[0])])
    return {"head.weight": 2 * prototypes, "head.bias": -(prototypes**2).sum(1)}


first_order_proto_maml = partial(proto_maml, create_graph=False)
"""Proto-MAML whose inner gradients are constants."""

COMPARISONS = (
    Comparison(proto_maml, regression=False),
    Comparison(
        first_order_proto_maml,
        variant="first-order",
        options={"differentiate": "first_order"},
        regression=False,
    ),
)
