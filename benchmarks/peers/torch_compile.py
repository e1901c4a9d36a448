"""The form of `torch_func` through `torch.compile`.

The plain loop cannot be compiled: `torch.compile` refuses to differentiate its backward pass once
more. Compiled code is not read from a cache on disk, so that the first call is what a first call
costs. It is timed where PyTorch finds a compiler: for C++ on a CPU, Triton on a GPU.
Repeat: `python -m benchmarks --peers torch_compile`; convolutions take minutes to compile.
"""

import importlib.util
import os
import shutil
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from benchmarks.peers import AbsentError, Program
from benchmarks.peers.torch_func import Function, all_tasks, backward_by, meta_gradient_program
from benchmarks.peers.torch_training import training_program
from benchmarks.workloads import Inputs, Workload

COMPILERS = ("g++", "clang++", "c++", "cl")


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The compiled program of `torch.func`."""
    _require_compiler(device)
    return meta_gradient_program(workload, inputs, device, _compiled(all_tasks(workload)))


def prepare_training(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The same gradients fed by PyTorch's loader, and its Adam."""
    _require_compiler(device)
    backward = backward_by(_compiled(all_tasks(workload)))
    return training_program(workload, inputs, device, backward)


def _require_compiler(device: str) -> None:
    if device == "gpu" and importlib.util.find_spec("triton") is None:
        raise AbsentError("torch.compile needs Triton on a GPU, which is not installed")
    named = [os.environ["CXX"]] if "CXX" in os.environ else list(COMPILERS)
    if device == "cpu" and not any(map(shutil.which, named)):
        raise AbsentError(
            f"torch.compile needs a C++ compiler, and there is no {' or '.join(named)}"
        )


def _compiled(function: Function) -> Function:
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    compiled = torch.compile(function)

    def call(*arguments: Any) -> Any:
        try:
            return compiled(*arguments)
        except TorchDynamoException as error:
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise AbsentError(f"torch.compile refuses it: {said}") from error

    return call
