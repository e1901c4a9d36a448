"""Algorithms by TorchOpt, whose functional optimisers return new weights."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torchopt

from parity.models import Forward, Weights
from parity.oracles.displacement import displaced
from parity.reference.common import Groups, Loss, Result, Task, leaves, mean
from parity.reference.imaml import DAMPING, SOLVER_STEPS, STRENGTH

_LOCK = threading.Lock()


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

    Arguments and result are those of `parity.reference.maml`; with `first_order` the library's
    `stop_gradient` cuts every step from those before it.
    """
    losses, trajectories, gradients = [], [], []
    with _precision_of(meta["params"]):
        for task in tasks:
            start = leaves(meta["params"])
            fast, steps = start, torchopt.FuncOptimizer(_optimizer(optimizer, inner_lr))
            trajectory = [fast]
            for _ in range(inner_steps):
                moving = {name: weight for name, weight in fast.items() if adapts(name)}
                support_loss = loss(forward(fast, task.support_x), task.support_y)
                moved = steps.step(support_loss, tuple(moving.values()))
                if first_order:
                    torchopt.stop_gradient(moved)
                fast = {**fast, **dict(zip(moving, moved, strict=True))}
                trajectory.append(fast)
            query_loss = loss(forward(fast, task.query_x), task.query_y)
            of = fast if first_order else start
            found = torch.autograd.grad(query_loss, list(of.values()))
            gradients.append(dict(zip(of, found, strict=True)))
            losses.append(query_loss.detach())
            trajectories.append(trajectory)
    return Result(losses, trajectories, {"params": mean(gradients)})


fomaml = partial(maml, first_order=True)
"""FOMAML."""
anil = partial(maml, adapts=lambda name: name.startswith("head."))
"""ANIL: the optimiser steps the head alone."""
boil = partial(maml, adapts=lambda name: not name.startswith("head."))
"""BOIL: the optimiser steps all but the head."""


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


def imaml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""iMAML: the implicit derivative of a root, by the library's own conjugate gradients.

    $$F(\varphi, \theta) = \nabla L_S(\varphi) + \lambda(\varphi - \theta) = 0, \qquad
      \left(\partial_\varphi F + \lambda d\,I\right) u = \nabla L_Q(\varphi_K), \qquad
      -\left(\partial_\theta F\right)^\top u = \lambda u$$

    which is λ times the equation of `parity.reference.imaml`, and so has the same solution after as
    many steps. Arguments and result are those there.
    """
    losses, trajectories, gradients = [], [], []
    names = list(meta["params"])
    solver = torchopt.linear_solve.solve_cg(
        ridge=DAMPING * STRENGTH, maxiter=SOLVER_STEPS, rtol=0.0
    )

    def one_task(task: Task) -> None:
        trajectory: list[Weights] = []

        def proximal(fast, start):
            outputs = forward(dict(zip(names, fast, strict=True)), task.support_x)
            distance = sum(((a - b) ** 2).sum() for a, b in zip(fast, start, strict=True))
            return loss(outputs, task.support_y) + STRENGTH / 2 * distance

        @torchopt.diff.implicit.custom_root(torch.func.grad(proximal), argnums=1, solve=solver)
        def root(initial, start):
            fast = tuple(leaves(dict(zip(names, initial, strict=True))).values())
            steps = torchopt.FuncOptimizer(_optimizer(optimizer, inner_lr))
            trajectory.append(dict(zip(names, fast, strict=True)))
            with torch.enable_grad():  # the library looks for roots where nothing is recorded
                for _ in range(inner_steps):
                    fast = steps.step(proximal(fast, start), fast)
                    torchopt.stop_gradient(fast)
                    trajectory.append(dict(zip(names, fast, strict=True)))
            return fast

        start = tuple(leaves(meta["params"]).values())
        fast = dict(zip(names, root(tuple(meta["params"].values()), start), strict=True))
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        found = torch.autograd.grad(query_loss, start)
        gradients.append(dict(zip(names, found, strict=True)))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)

    with _precision_of(meta["params"]):
        for task in tasks:
            one_task(task)
    return Result(losses, trajectories, {"params": mean(gradients)})


def _optimizer(kind: str, lr: float) -> "torchopt.base.GradientTransformation":
    if kind == "adam":
        return torchopt.adam(lr, eps_root=1e-6)
    return torchopt.sgd(lr, momentum=0.9 if kind == "momentum" else 0.0)


@contextmanager
def _precision_of(weights: Weights) -> Iterator[None]:
    """PyTorch's default dtype as that of `weights`: Adam's bias correction is computed in it."""
    with _LOCK, warnings.catch_warnings():  # the default is one for all threads
        warnings.filterwarnings("ignore", "We've integrated functorch", FutureWarning)
        before = torch.get_default_dtype()
        torch.set_default_dtype(next(iter(weights.values())).dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
