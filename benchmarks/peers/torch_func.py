"""PyTorch's own function transforms: `torch.func`, `vmap` over tasks and `grad` inside and out.

Claim: both gradients are taken inside the `vmap`. With the outer one outside it (`grad` of the mean
of a `vmap`, or `backward()` after it) PyTorch 2.13 returns a wrong meta-gradient where the scale of
a `batch_norm` adapts: the derivative of that scale's inner gradient takes the batch's statistics to
be constants. `tests/benchmarks/test_benchmark_peers.py` shows it in ten lines.
Repeat: `python -m benchmarks --peers torch_func`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmarks.peers import Program
from benchmarks.peers.torch_models import Weights, loss
from benchmarks.peers.torch_program import Tensors, torch_inputs, torch_program
from benchmarks.peers.torch_training import Backward, training_program
from benchmarks.workloads import Inputs, Workload

Function: TypeAlias = Callable[..., Any]


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `torch.func`."""
    return meta_gradient_program(workload, inputs, device, all_tasks(workload))


def prepare_training(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The same gradients fed by PyTorch's loader, and its Adam."""
    return training_program(workload, inputs, device, backward_by(all_tasks(workload)))


def all_tasks(workload: Workload) -> Function:
    """The function of the weights and the episodes that gives every task's gradient and loss."""
    network = workload.network

    def support_loss(fast: Weights, x: Tensor, y: Tensor) -> Tensor:
        return loss(network, fast, x, y)

    def task_loss(
        start: Weights, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        fast = start
        for _ in range(workload.inner_steps):
            gradient = torch.func.grad(support_loss)(fast, support_x, support_y)
            fast = {name: fast[name] - workload.inner_lr * gradient[name] for name in fast}
        return loss(network, fast, query_x, query_y)

    one_task = torch.func.grad_and_value(task_loss)
    return torch.func.vmap(one_task, in_dims=(None, 0, 0, 0, 0))


def meta_gradient_program(
    workload: Workload, inputs: Inputs, device: str, function: Function
) -> Program:
    """One meta-gradient by that function of all tasks."""
    weights, *episodes = torch_inputs(workload, inputs, device)

    def step() -> tuple[Tensor, Weights]:
        gradients, losses = function(weights, *episodes)
        return losses.mean(), {name: tensor.mean(0) for name, tensor in gradients.items()}

    return torch_program(step, device)


def backward_by(function: Function) -> Backward:
    """That function of all tasks as training takes it."""

    def backward(_: Workload, tensors: Tensors) -> Tensor:
        weights, *episodes = tensors
        # Of weights that require a gradient, autograd would record how theirs was computed.
        gradients, losses = function({n: w.detach() for n, w in weights.items()}, *episodes)
        for name, tensor in weights.items():
            tensor.grad = gradients[name].mean(0)
        return losses.mean()

    return backward
