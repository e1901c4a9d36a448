"""Algorithms by TorchOpt, whose functional optimizers return new weights."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torchopt

from parity.reference.imaml import DAMPING, REGULARIZATION, SOLVER_STEPS
from parity.reference.reptile import displacement
from parity.torch_tools import Forward, Groups, Loss, Task, TaskResult, Weights, gradient, leaves

_LOCK = threading.Lock()


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

    Arguments and result are those of `parity.reference.maml`; with `first_order` the library's
    `stop_gradient` detaches every step from those before it.
    """
    with _precision_of(meta["params"]):
        start = leaves(meta["params"])
        fast, inner = start, torchopt.FuncOptimizer(_optimizer(optimizer, inner_lr))
        trajectory = [fast]
        for _ in range(inner_steps):
            adapting = {name: weight for name, weight in fast.items() if adapts(name)}
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            stepped = inner.step(support_loss, tuple(adapting.values()))
            if first_order:
                torchopt.stop_gradient(stepped)
            fast = {**fast, **dict(zip(adapting, stepped, strict=True))}
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        slope = gradient(query_loss, fast if first_order else start)
    return TaskResult(query_loss, trajectory, {"params": slope})


fomaml = partial(maml, first_order=True)
"""FOMAML."""
anil = partial(maml, adapts=lambda name: name.startswith("head."))
"""ANIL: the optimizer steps the head alone."""
boil = partial(maml, adapts=lambda name: not name.startswith("head."))
"""BOIL: the optimizer steps everything but the head."""


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


def imaml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""iMAML: the implicit derivative of a root, by the library's own conjugate gradients.

    $$F(\varphi, \theta) = \nabla L_S(\varphi) + \lambda(\varphi - \theta) = 0, \qquad
      \left(\partial_\varphi F + \lambda d\,I\right) u = \nabla L_Q(\varphi_K), \qquad
      -\left(\partial_\theta F\right)^\top u = \lambda u$$

    which is λ times the equation of `parity.reference.imaml`, and so has the same solution after
    equally many steps. Arguments and result are those there.
    """
    names = list(meta["params"])
    trajectory: list[Weights] = []
    solver = torchopt.linear_solve.solve_cg(
        ridge=DAMPING * REGULARIZATION, maxiter=SOLVER_STEPS, rtol=0.0
    )

    def proximal(fast, start):
        outputs = forward(dict(zip(names, fast, strict=True)), task.support_x)
        distance = sum(((a - b) ** 2).sum() for a, b in zip(fast, start, strict=True))
        return loss(outputs, task.support_y) + REGULARIZATION / 2 * distance

    @torchopt.diff.implicit.custom_root(torch.func.grad(proximal), argnums=1, solve=solver)
    def root(initial, start):
        fast = tuple(leaves(dict(zip(names, initial, strict=True))).values())
        inner = torchopt.FuncOptimizer(_optimizer(optimizer, inner_lr))
        trajectory.append(dict(zip(names, fast, strict=True)))
        with torch.enable_grad():  # the library calls this function where gradients are off
            for _ in range(inner_steps):
                fast = inner.step(proximal(fast, start), fast)
                torchopt.stop_gradient(fast)
                trajectory.append(dict(zip(names, fast, strict=True)))
        return fast

    with _precision_of(meta["params"]):
        start = leaves(meta["params"])
        solution = root(tuple(meta["params"].values()), tuple(start.values()))
        fast = dict(zip(names, solution, strict=True))
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        slope = gradient(query_loss, start)
    return TaskResult(query_loss, trajectory, {"params": slope})


def _optimizer(kind: str, lr: float) -> "torchopt.base.GradientTransformation":
    if kind == "adam":
        return torchopt.adam(lr, eps_root=1e-6)
    return torchopt.sgd(lr, momentum=0.9 if kind == "momentum" else 0.0)


@contextmanager
def _precision_of(weights: Weights) -> Iterator[None]:
    """PyTorch's default dtype as that of `weights`: Adam's bias correction is computed in it."""
    with _LOCK, warnings.catch_warnings():  # the default dtype is shared by all threads
        warnings.filterwarnings("ignore", "We've integrated functorch", FutureWarning)
        before = torch.get_default_dtype()
        torch.set_default_dtype(next(iter(weights.values())).dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
