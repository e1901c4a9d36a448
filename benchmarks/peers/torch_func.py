"""PyTorch's own function transforms: `torch.func`, `vmap` over tasks and `grad` inside and out.

Claim: both gradients are taken inside the `vmap`. With the outer one outside it (`grad` of the mean
of a `vmap`, or `backward()` after it) PyTorch 2.13 returns a wrong meta-gradient where the scale of
a `batch_norm` adapts: the derivative of that scale's inner gradient takes the batch's statistics to
be constants. `tests/benchmarks/test_benchmark_peers.py` shows it in ten lines.
Repeat: `python -m benchmarks --peers torch_func`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import Program
from benchmarks.peers.torch_models import Weights, loss
from benchmarks.peers.torch_program import torch_inputs, torch_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `torch.func`."""
    return all_tasks_program(workload, inputs, device, lambda function: function)


def all_tasks_program(
    workload: Workload,
    inputs: Inputs,
    device: str,
    transform: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Program:
    """The same with a transformation of the function that computes all tasks' gradients."""
    weights, *episodes = torch_inputs(workload, inputs, device)
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
    all_tasks = transform(torch.func.vmap(one_task, in_dims=(None, 0, 0, 0, 0)))

    def step() -> tuple[Tensor, Weights]:
        gradients, losses = all_tasks(weights, *episodes)
        return losses.mean(), {name: tensor.mean(0) for name, tensor in gradients.items()}

    return torch_program(step, device)
