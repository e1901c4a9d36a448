"""What every PyTorch peer shares: its tensors, and the `Program` that the worker times."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.peers import AbsentError, Program
from benchmarks.peers.torch_models import Weights, from_tree, to_tree
from benchmarks.workloads import MLP, Inputs, Workload


class Tensors(NamedTuple):
    """The inputs on the device; images are `[tasks, examples, channels, height, width]`."""

    weights: Weights
    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


def torch_inputs(workload: Workload, inputs: Inputs, device: str) -> Tensors:
    """The inputs as PyTorch takes them; float32 stays float32, without TF32."""
    if device == "gpu" and not torch.cuda.is_available():
        raise AbsentError(f"PyTorch {torch.__version__} sees no CUDA device")
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    target = torch.device("cuda" if device == "gpu" else "cpu")
    weights, *episodes = inputs
    support_x, support_y, query_x, query_y = (
        torch.from_numpy(array).to(target) for array in episodes
    )
    if not isinstance(workload.network, MLP):
        support_x, query_x = (x.movedim(-1, 2).contiguous() for x in (support_x, query_x))
        support_y, query_y = support_y.long(), query_y.long()
    return Tensors(from_tree(weights, target), support_x, support_y, query_x, query_y)


def torch_program(
    step: Callable[[], Any], device: str, check: Callable[[], Any] | None = None
) -> Program:
    """The program that calls `step()`; it, or else `check()`, returns `(loss, gradient)`."""

    def finished() -> Any:
        outputs = step()
        if device == "gpu":
            torch.cuda.synchronize()
        return outputs

    def result(outputs: Any) -> Any:
        loss, gradient = outputs
        return loss.item(), to_tree(gradient)

    def peak_bytes() -> int | None:
        return torch.cuda.max_memory_allocated() if device == "gpu" else None

    return Program(finished, result, peak_bytes, check)
