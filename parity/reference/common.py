"""What the references share: what goes in, what comes out, and the optimisers' equations."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from parity.models import Forward, Weights

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`loss(outputs, y) -> scalar`, a mean over the examples."""
Groups: TypeAlias = dict[str, Weights]
"""Meta-parameters: the network's weights as `params`, and what else is learned by its own name."""


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
    meta_gradient: Groups
    """The mean over tasks, group by group as the meta-parameters."""


class Reference(Protocol):
    """The call that the references share."""

    def __call__(
        self,
        forward: Forward,
        loss: Loss,
        meta: Groups,
        tasks: Sequence[Task],
        *,
        inner_lr: float,
        inner_steps: int,
        optimizer: str = "sgd",
    ) -> Result: ...


class Optimizer:
    """Gradient descent, momentum or Adam by their equations, differentiable.

    - `sgd`: φ ← φ − αg.
    - `momentum`: m ← 0.9m + g, φ ← φ − αm.
    - `adam`: m ← 0.9m + 0.1g, v ← 0.999v + 0.001g², φ ← φ − α m̂ / (√(v̂ + 1e-6) + 1e-8), with
      m̂ = m/(1 − 0.9ᵗ) and v̂ = v/(1 − 0.999ᵗ). The 1e-6 keeps the derivative of the root finite.

    All is computed in the precision of the weights, 0.9ᵗ and 0.999ᵗ too.
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
            name: weight - self.lr * self._move(name, gradient) for name, weight in fast.items()
        }

    def _move(self, name: str, gradient: Weights) -> Tensor:
        g = gradient[name]
        if self.kind == "sgd":
            return g
        m = self.m.get(name, torch.zeros_like(g))
        if self.kind == "momentum":
            self.m[name] = 0.9 * m + g
            return self.m[name]
        v = self.v.get(name, torch.zeros_like(g))
        self.m[name] = 0.9 * m + 0.1 * g
        self.v[name] = 0.999 * v + 0.001 * g**2
        left = torch.tensor((0.9, 0.999), dtype=g.dtype) ** self.t
        m_hat = self.m[name] / (1 - left[0])
        v_hat = self.v[name] / (1 - left[1])
        return m_hat / ((v_hat + 1e-6) ** 0.5 + 1e-8)


def leaves(weights: Weights) -> Weights:
    """The same values, cut from whatever computed them, to be differentiated by."""
    return {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}


def gradient(value: Tensor, weights: Weights, *, create_graph: bool = False) -> Weights:
    """The derivative of `value` in each of `weights`; with a graph, to be differentiated again."""
    grads = torch.autograd.grad(value, list(weights.values()), create_graph=create_graph)
    return dict(zip(weights, grads, strict=True))


def mean(gradients: list[Weights]) -> Weights:
    """The mean over tasks."""
    return {name: torch.stack([g[name] for g in gradients]).mean(0) for name in gradients[0]}
