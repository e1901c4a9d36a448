"""MAML as it is mostly written in PyTorch: a Python loop over tasks, `create_graph` in inner steps.

Claim: each task's graph is freed by its own backward pass, which adds to the running gradient, so
that memory is one task's.
Repeat: `python -m benchmarks --peers torch_loop`.
"""

import torch
from torch import Tensor

from benchmarks.peers import Program
from benchmarks.peers.torch_models import Weights, gradient_of, loss
from benchmarks.peers.torch_program import Tensors, torch_inputs, torch_program
from benchmarks.peers.torch_training import training_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of the plain loop."""
    tensors = torch_inputs(workload, inputs, device)
    weights = {name: tensor.requires_grad_() for name, tensor in tensors.weights.items()}

    def step() -> tuple[Tensor, Weights]:
        for tensor in weights.values():
            tensor.grad = None
        total = backward(workload, tensors._replace(weights=weights))
        return total, {name: gradient_of(tensor) for name, tensor in weights.items()}

    return torch_program(step, device)


def prepare_training(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The plain loop fed by PyTorch's loader, and its Adam."""
    return training_program(workload, inputs, device, backward)


def backward(workload: Workload, tensors: Tensors) -> Tensor:
    """The mean loss; adds the meta-gradient to `grad` of the weights."""
    network = workload.network
    total = tensors.query_x.new_zeros(())
    for task in range(workload.tasks):
        fast = tensors.weights
        for _ in range(workload.inner_steps):
            support_loss = loss(network, fast, tensors.support_x[task], tensors.support_y[task])
            gradients = torch.autograd.grad(support_loss, list(fast.values()), create_graph=True)
            fast = {
                name: tensor - workload.inner_lr * gradient
                for (name, tensor), gradient in zip(fast.items(), gradients, strict=True)
            }
        query_loss = loss(network, fast, tensors.query_x[task], tensors.query_y[task])
        query_loss = query_loss / workload.tasks
        query_loss.backward()
        total += query_loss.detach()
    return total
