"""The form of `torch_func` with TensorFloat32, the peer of this project's own `maml_jax_tf32`.

Repeat: `python -m benchmarks --device gpu --peers maml_jax_tf32,maml_jax_bf16,torch_func_tf32`.
"""

import torch

from benchmarks.peers import Program, torch_func
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `torch.func`, computed as PyTorch is then set."""
    program = torch_func.prepare(workload, inputs, device)
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    return program
