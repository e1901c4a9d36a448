"""Algorithms by `higher`, whose optimisers step a module and record what they do."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import higher
import torch
from torch import Tensor, nn

from parity.models import Forward, Weights
from parity.oracles.displacement import displaced
from parity.reference.common import Groups, Loss, Result, Task, leaves, mean


class _Network(nn.Module):
    """`forward(weights, x)` as a module whose parameters are the weights, by names without dots."""

    def __init__(self, function: Forward, weights: Weights):
        super().__init__()
        self.function = function
        self.keys = {name: name.replace(".", "__") for name in weights}
        for name, key in self.keys.items():
            self.register_parameter(key, nn.Parameter(weights[name].detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        weights = {name: getattr(self, key) for name, key in self.keys.items()}
        return self.function(weights, x)


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
    first_order: bool = False,
) -> Result:
    r"""MAML, or FOMAML, which has the gradient at the adapted weights.

    $$\tfrac1T \sum_t \tfrac{d}{d\theta} L_{Q_t}(\varphi_{t,K}), \qquad
      \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k)$$

    Arguments and result are those of `parity.reference.maml`; with `first_order` the library
    records no graph, and the weights of each step are leaves.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        network = _Network(forward, meta["params"])
        moving = [
            p for name, p in zip(meta["params"], network.parameters(), strict=True) if adapts(name)
        ]
        steps = torch.optim.SGD(moving, inner_lr, momentum=0.9 if optimizer == "momentum" else 0.0)
        with higher.innerloop_ctx(network, steps, track_higher_grads=not first_order) as inner:
            fast, query_loss, trajectory = _adapt(inner, loss, meta, task, inner_steps, {})
            of = fast.parameters() if first_order else fast.parameters(time=0)
            gradients.append(_named(meta, torch.autograd.grad(query_loss, list(of))))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients)})


fomaml = partial(maml, first_order=True)
"""FOMAML."""
anil = partial(maml, adapts=lambda name: name.startswith("head."))
"""ANIL: the optimiser is given the head alone."""
boil = partial(maml, adapts=lambda name: not name.startswith("head."))
"""BOIL: the optimiser is given all but the head."""


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
    r"""Reptile, $\tfrac1T \sum_t (\theta - \varphi_{t,K})$, where FOMAML's steps end.

    Arguments and result are those of `maml`.
    """
    result = fomaml(
        forward, loss, meta, tasks, inner_lr=inner_lr, inner_steps=inner_steps, optimizer=optimizer
    )
    return displaced(result, meta)


def meta_sgd(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""Meta-SGD, $\varphi_{k+1} = \varphi_k - a \circ \nabla L_S(\varphi_k)$.

    Arguments and result are those of `parity.reference.meta_sgd`: the rates a, in the weights'
    shapes, override the optimiser's own, for which each weight is a group of parameters.
    """
    losses, trajectories, gradients, of_rates = [], [], [], []
    for task in tasks:
        network = _Network(forward, meta["params"])
        rates = leaves(meta["rates"])
        groups = [{"params": [parameter]} for parameter in network.parameters()]
        steps = torch.optim.SGD(groups, inner_lr)
        with higher.innerloop_ctx(network, steps) as inner:
            override = {"lr": [rates[name] for name in meta["params"]]}
            fast, query_loss, trajectory = _adapt(
                inner, loss, meta, task, inner_steps, {"override": override}
            )
            start = list(fast.parameters(time=0))
            found = torch.autograd.grad(query_loss, [*start, *rates.values()])
        gradients.append(_named(meta, found[: len(start)]))
        of_rates.append(dict(zip(rates, found[len(start) :], strict=True)))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients), "rates": mean(of_rates)})


def _adapt(
    inner: Any, loss: Loss, meta: Groups, task: Task, inner_steps: int, options: dict[str, Any]
) -> tuple[Any, Tensor, list[Weights]]:
    """The module with its fast weights, its query loss, and the weights after every step."""
    fast, steps = inner
    trajectory = [_named(meta, fast.parameters())]
    for _ in range(inner_steps):
        steps.step(loss(fast(task.support_x), task.support_y), **options)
        trajectory.append(_named(meta, fast.parameters()))
    return fast, loss(fast(task.query_x), task.query_y), trajectory


def _named(meta: Groups, tensors: Any) -> Weights:
    return dict(zip(meta["params"], tensors, strict=True))
