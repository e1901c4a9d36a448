"""Each algorithm once more, as the plainest loop that PyTorch can express.

A weight that the loss does not reach is an error here, as `torch.autograd.grad` has it by default:
`allow_unused` would let a missing gradient pass for a zero.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from parity.models import Forward, Weights

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`loss(outputs, y) -> scalar`, a mean over the examples."""


class Task(NamedTuple):
    """One episode: the support set to adapt on, and the query set to be judged on."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class Result(NamedTuple):
    """What an algorithm computes on a batch of tasks."""

    losses: list[Tensor]
    """The query loss of each task after its last inner step, in the loss's units."""
    trajectories: list[list[Weights]]
    """For each task the weights after 0, 1, …, `inner_steps` inner steps."""
    meta_gradient: Weights
    """The mean over tasks."""


class Reference(Protocol):
    """The call that the references share."""

    def __call__(
        self,
        forward: Forward,
        loss: Loss,
        weights: Weights,
        tasks: Sequence[Task],
        *,
        inner_lr: float,
        inner_steps: int,
    ) -> Result: ...


def maml(
    forward: Forward,
    loss: Loss,
    weights: Weights,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
) -> Result:
    r"""MAML: the gradient of the query loss through every inner step (Finn et al. 2017).

    $$\varphi_0 = \theta, \qquad \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k), \qquad
      \tfrac1T \sum_t \tfrac{d}{d\theta} L_{Q_t}(\varphi_{t,K})$$

    Args:
      forward: the network.
      loss: a mean over examples.
      weights: θ, left as they are.
      tasks: the T tasks.
      inner_lr: α.
      inner_steps: K.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        start = _leaves(weights)
        fast = start
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            # The graph of the gradient itself is what makes the outer gradient second-order.
            gradient = torch.autograd.grad(support_loss, list(fast.values()), create_graph=True)
            fast = {
                name: weight - inner_lr * g
                for (name, weight), g in zip(fast.items(), gradient, strict=True)
            }
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        gradients.append(torch.autograd.grad(query_loss, list(start.values())))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, _mean(weights, gradients))


def fomaml(
    forward: Forward,
    loss: Loss,
    weights: Weights,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
) -> Result:
    r"""FOMAML: the gradient of the query loss at the adapted weights (Finn et al. 2017, §5.2).

    $$\tfrac1T \sum_t \nabla L_{Q_t}(\varphi)\big|_{\varphi = \varphi_{t,K}}$$

    Arguments and result are those of `maml`.
    """
    losses, trajectories, gradients = [], [], []
    for task in tasks:
        fast = _leaves(weights)
        trajectory = [fast]
        for _ in range(inner_steps):
            support_loss = loss(forward(fast, task.support_x), task.support_y)
            gradient = torch.autograd.grad(support_loss, list(fast.values()))
            fast = _leaves(
                {
                    name: weight - inner_lr * g
                    for (name, weight), g in zip(fast.items(), gradient, strict=True)
                }
            )
            trajectory.append(fast)
        query_loss = loss(forward(fast, task.query_x), task.query_y)
        gradients.append(torch.autograd.grad(query_loss, list(fast.values())))
        losses.append(query_loss.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, _mean(weights, gradients))


def _leaves(weights: Weights) -> Weights:
    """The same values, cut from whatever computed them, to be differentiated by."""
    return {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}


def _mean(weights: Weights, gradients: list[tuple[Tensor, ...]]) -> Weights:
    columns = zip(*gradients, strict=True)
    return {
        name: torch.stack(column).mean(0) for name, column in zip(weights, columns, strict=True)
    }
