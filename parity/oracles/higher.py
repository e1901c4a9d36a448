"""Algorithms by `higher`, whose optimizers step a module and record what they do."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import higher
import torch
from torch import Tensor, nn

from parity.reference.reptile import displacement
from parity.torch_tools import Forward, Groups, Loss, Task, TaskResult, Weights, leaves


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
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
    adapts: Callable[[str], bool] = lambda name: True,
    first_order: bool = False,
) -> TaskResult:
    r"""MAML, or FOMAML, which has the gradient at the adapted weights.

    $$\tfrac{d}{d\theta} L_Q(\varphi_K), \qquad
      \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k)$$

    Arguments and result are those of `parity.reference.maml`; with `first_order` the library
    records no graph, and the weights of each step are leaves.
    """
    network = _Network(forward, meta["params"])
    adapting = [
        p for name, p in zip(meta["params"], network.parameters(), strict=True) if adapts(name)
    ]
    inner = torch.optim.SGD(adapting, inner_lr, momentum=0.9 if optimizer == "momentum" else 0.0)
    with higher.innerloop_ctx(network, inner, track_higher_grads=not first_order) as loop:
        fast, query_loss, trajectory = _adapt(loop, loss, meta, task, inner_steps)
        by = fast.parameters() if first_order else fast.parameters(time=0)
        slope = _named(meta, torch.autograd.grad(query_loss, list(by)))
    return TaskResult(query_loss, trajectory, {"params": slope})


fomaml = partial(maml, first_order=True)
"""FOMAML."""
anil = partial(maml, adapts=lambda name: name.startswith("head."))
"""ANIL: the optimizer is given the head alone."""
boil = partial(maml, adapts=lambda name: not name.startswith("head."))
"""BOIL: the optimizer is given everything but the head."""


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
    r"""Reptile, $\theta - \varphi_K$, with φ where FOMAML's steps end.

    Arguments and result are those of `maml`.
    """
    result = fomaml(
        forward, loss, meta, task, inner_lr=inner_lr, inner_steps=inner_steps, optimizer=optimizer
    )
    moved = displacement(meta["params"], result.trajectory[-1])
    return result._replace(meta_gradient={"params": moved})


def meta_sgd(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""Meta-SGD, $\varphi_{k+1} = \varphi_k - a \circ \nabla L_S(\varphi_k)$.

    Arguments and result are those of `parity.reference.meta_sgd`: the rates a, in the weights'
    shapes, override the optimizer's own, for which each weight is a group of parameters.
    """
    del optimizer
    network = _Network(forward, meta["params"])
    rates = leaves(meta["rates"])
    groups = [{"params": [parameter]} for parameter in network.parameters()]
    with higher.innerloop_ctx(network, torch.optim.SGD(groups, inner_lr)) as loop:
        override = {"lr": [rates[name] for name in meta["params"]]}
        fast, query_loss, trajectory = _adapt(
            loop, loss, meta, task, inner_steps, override=override
        )
        start = list(fast.parameters(time=0))
        slopes = torch.autograd.grad(query_loss, [*start, *rates.values()])
    of_rates = dict(zip(rates, slopes[len(start) :], strict=True))
    of_weights = _named(meta, slopes[: len(start)])
    return TaskResult(query_loss, trajectory, {"params": of_weights, "rates": of_rates})


def _adapt(
    loop: Any, loss: Loss, meta: Groups, task: Task, inner_steps: int, **options: Any
) -> tuple[Any, Tensor, list[Weights]]:
    """The module with its fast weights, its query loss, and the weights after every step."""
    fast, inner = loop
    trajectory = [_named(meta, fast.parameters())]
    for _ in range(inner_steps):
        inner.step(loss(fast(task.support_x), task.support_y), **options)
        trajectory.append(_named(meta, fast.parameters()))
    return fast, loss(fast(task.query_x), task.query_y), trajectory


def _named(meta: Groups, tensors: Iterable[Tensor]) -> Weights:
    return dict(zip(meta["params"], tensors, strict=True))
