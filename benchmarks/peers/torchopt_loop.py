"""TorchOpt (Ren et al. 2023): a differentiable optimiser that changes a module in place.

Claim: as its documentation has MAML: `MetaSGD` within a task, `backward` of the query loss into the
module's first parameters, and module and optimiser put back for the next task.
Repeat: `pip install torchopt`, then `python -m benchmarks --peers torchopt`.
"""

import torchopt
from torch import Tensor

from benchmarks.peers import Program
from benchmarks.peers.torch_models import Weights, criterion
from benchmarks.peers.torch_modules import Net
from benchmarks.peers.torch_program import torch_inputs, torch_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of TorchOpt."""
    weights, support_x, support_y, query_x, query_y = torch_inputs(workload, inputs, device)
    net = Net(workload.network, weights)
    descent = torchopt.MetaSGD(net, lr=workload.inner_lr)

    def step() -> tuple[Tensor, Weights]:
        net.zero_grad()
        total = query_x.new_zeros(())
        first = torchopt.extract_state_dict(net, by="reference")
        first_descent = torchopt.extract_state_dict(descent, by="reference")
        for task in range(workload.tasks):
            for _ in range(workload.inner_steps):
                descent.step(criterion(workload.network, net(support_x[task]), support_y[task]))
            loss = criterion(workload.network, net(query_x[task]), query_y[task]) / workload.tasks
            loss.backward()
            total += loss.detach()
            torchopt.recover_state_dict(net, first)
            torchopt.recover_state_dict(descent, first_descent)
        return total, net.gradient()

    return torch_program(step, device)
