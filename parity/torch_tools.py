"""What the PyTorch references share: their types, the inner optimizers, differentiation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

Weights: TypeAlias = dict[str, Tensor]
"""Weights by PyTorch's names, as in a `state_dict`."""
Forward: TypeAlias = Callable[[Weights, Tensor], Tensor]
"""A network: `forward(weights, x) -> outputs`."""
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`loss(outputs, y) -> scalar`, a mean over the examples."""
Groups: TypeAlias = dict[str, Weights]
"""Meta-parameters: the network's weights as `params`, and every other group by its own name."""


class Task(NamedTuple):
    """One episode: the support set to adapt on, the query set to evaluate on."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class TaskResult(NamedTuple):
    """What an algorithm computes for one task."""

    loss: Tensor
    """The query loss after the last inner step."""
    trajectory: list[Weights]
    """The weights after 0, 1, …, `inner_steps` inner steps."""
    meta_gradient: Groups
    """By the groups and names of the meta-parameters."""


class Reference(Protocol):
    """An algorithm in PyTorch, for one task."""

    def __call__(
        self,
        forward: Forward,
        loss: Loss,
        meta: Groups,
        task: Task,
        *,
        inner_lr: float,
        inner_steps: int,
        optimizer: str = "sgd",
    ) -> TaskResult:
        """Adapt to the support set and differentiate the query loss.

        Args:
          forward: the network.
          loss: the loss, a mean over examples.
          meta: the meta-parameters, which stay as they are.
          task: the task.
          inner_lr: the rate of the inner optimizer.
          inner_steps: the number of inner steps.
          optimizer: the inner optimizer, one of those that `Optimizer` has.
        """


class Result(NamedTuple):
    """What an algorithm computes for a batch of tasks."""

    losses: list[Tensor]
    """The query loss of each task after its last inner step."""
    trajectories: list[list[Weights]]
    """For each task the weights after 0, 1, …, `inner_steps` inner steps."""
    meta_gradient: Groups
    """The mean over tasks."""


def over_tasks(
    reference: Reference,
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    **options: Any,
) -> Result:
    """Run `reference` on each task and average the meta-gradients."""
    results = [reference(forward, loss, meta, task, **options) for task in tasks]
    return Result(
        [result.loss.detach() for result in results],
        [result.trajectory for result in results],
        {
            group: {
                name: torch.stack([r.meta_gradient[group][name] for r in results]).mean(0)
                for name in tensors
            }
            for group, tensors in results[0].meta_gradient.items()
        },
    )


class Optimizer:
    """Gradient descent, momentum or Adam by their equations, differentiable.

    - `sgd`: φ ← φ − αg.
    - `momentum`: m ← 0.9m + g, φ ← φ − αm.
    - `adam`: m ← 0.9m + 0.1g, v ← 0.999v + 0.001g², φ ← φ − α m̂ / (√(v̂ + 1e-6) + 1e-8), with
      m̂ = m/(1 − 0.9ᵗ) and v̂ = v/(1 − 0.999ᵗ). The 1e-6 keeps the derivative of the root finite.

    Everything is computed in the precision of the weights, 0.9ᵗ and 0.999ᵗ too.
    """

    def __init__(self, kind: str, lr: float):
        if kind not in ("sgd", "momentum", "adam"):
            raise ValueError(f"`optimizer` was {kind!r}; it may be sgd, momentum or adam.")
        self.kind, self.lr = kind, lr
        self.m: Weights = {}
        self.v: Weights = {}
        self.t = 0

    def step(self, fast: Weights, gradient: Weights) -> Weights:
        """The weights after one step."""
        self.t += 1
        return {
            name: weight - self.lr * self._direction(name, gradient[name])
            for name, weight in fast.items()
        }

    def _direction(self, name: str, g: Tensor) -> Tensor:
        if self.kind == "sgd":
            return g
        m = self.m.get(name, torch.zeros_like(g))
        if self.kind == "momentum":
            self.m[name] = 0.9 * m + g
            return self.m[name]
        v = self.v.get(name, torch.zeros_like(g))
        self.m[name] = 0.9 * m + 0.1 * g
        self.v[name] = 0.999 * v + 0.001 * g**2
        decay = torch.tensor((0.9, 0.999), dtype=g.dtype) ** self.t
        m_hat = self.m[name] / (1 - decay[0])
        v_hat = self.v[name] / (1 - decay[1])
        return m_hat / ((v_hat + 1e-6) ** 0.5 + 1e-8)


def leaves(weights: Weights) -> Weights:
    """The same values detached from their graph, as leaves to differentiate by."""
    return {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}


def gradient(value: Tensor, weights: Weights, *, create_graph: bool = False) -> Weights:
    """The derivative of `value` by each of `weights`; with a graph it can be differentiated again.

    A weight that `value` does not depend on is an error, as `torch.autograd.grad` has it by
    default: with `allow_unused` a missing gradient would pass for a zero.
    """
    grads = torch.autograd.grad(value, list(weights.values()), create_graph=create_graph)
    return dict(zip(weights, grads, strict=True))


def gradient_by_group(value: Tensor, groups: Groups) -> Groups:
    """The derivative of `value` by each tensor of each group."""
    flat = {(group, name): w for group, tensors in groups.items() for name, w in tensors.items()}
    grads = torch.autograd.grad(value, list(flat.values()))
    found: Groups = {group: {} for group in groups}
    for (group, name), slope in zip(flat, grads, strict=True):
        found[group][name] = slope
    return found
