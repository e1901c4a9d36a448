"""PyTorch's own function transforms: `torch.func`, `vmap` over tasks and `grad` inside and out.

Claim: this is the form that PyTorch's documentation gives for MAML.
Repeat: `python -m benchmarks --peers torch_func`.
"""

import torch
from torch import Tensor

from benchmarks.peers import Program
from benchmarks.peers.torch_models import Weights, loss
from benchmarks.peers.torch_program import torch_inputs, torch_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `torch.func`."""
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

    def mean_loss(start: Weights) -> Tensor:
        losses = torch.func.vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(start, *episodes)
        return losses.mean()

    def step() -> tuple[Tensor, Weights]:
        gradient, value = torch.func.grad_and_value(mean_loss)(weights)
        return value, gradient

    return torch_program(step, device)
