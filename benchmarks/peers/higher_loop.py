"""`higher` (Grefenstette et al. 2019): a module made functional, an optimiser made differentiable.

Claim: as its documentation has MAML: for each task a copy of the module that keeps the graph, plain
SGD within, `backward` of the query loss into the module's own parameters.
Repeat: `pip install higher`, then `python -m benchmarks --peers higher`.
"""

import higher
import torch
from torch import Tensor

from benchmarks.peers import Program
from benchmarks.peers.torch_models import Weights, criterion
from benchmarks.peers.torch_modules import Net
from benchmarks.peers.torch_program import torch_inputs, torch_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `higher`."""
    weights, support_x, support_y, query_x, query_y = torch_inputs(workload, inputs, device)
    net = Net(workload.network, weights)
    descent = torch.optim.SGD(net.parameters(), lr=workload.inner_lr)

    def step() -> tuple[Tensor, Weights]:
        net.zero_grad()
        total = query_x.new_zeros(())
        for task in range(workload.tasks):
            with higher.innerloop_ctx(net, descent, copy_initial_weights=False) as (fast, steps):
                for _ in range(workload.inner_steps):
                    steps.step(criterion(workload.network, fast(support_x[task]), support_y[task]))
                loss = criterion(workload.network, fast(query_x[task]), query_y[task])
                loss = loss / workload.tasks
                loss.backward()
            total += loss.detach()
        return total, net.gradient()

    return torch_program(step, device)
