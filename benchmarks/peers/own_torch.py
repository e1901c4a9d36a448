"""A user's own step in PyTorch: `step(weights, support_x, support_y, query_x, query_y)`.

Claim: it gets the workload's weights by PyTorch's names and in its layouts, images with channels
first and labels in int64, all on the device before the clock runs. What it returns, the mean loss
and the meta-gradient by the names of the weights, is brought back to the inputs' layout.
Repeat: docs/benchmark-your-own.md.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import AbsentError, Program
from benchmarks.workloads import Array, Inputs, Tree, Workload, find


def prepare(workload: Workload, inputs: Inputs, device: str, source: str) -> Program:
    """The program of the function that `source` names."""
    del workload
    if device == "gpu" and not torch.cuda.is_available():
        raise AbsentError(f"PyTorch {torch.__version__} sees no CUDA device")
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    target = torch.device("cuda" if device == "gpu" else "cpu")
    step = find(source)
    arrays = dict(_named(inputs.weights))
    weights = {name: torch.from_numpy(a).to(target) for name, a in arrays.items()}
    before = {name: tensor.clone() for name, tensor in weights.items()}
    episodes = [_episodes(array).to(target) for array in inputs[1:]]

    def finished() -> tuple[Tensor, dict[str, Tensor]]:
        # Views, so that what a step asks of them (`requires_grad_`, `grad`) ends with it.
        outputs = step({name: w.detach() for name, w in weights.items()}, *episodes)
        if device == "gpu":
            torch.cuda.synchronize()
        return outputs

    def result(outputs: tuple[Tensor, dict[str, Tensor]]) -> tuple[float, Tree]:
        loss, gradient = outputs
        if changed := [name for name in weights if not torch.equal(weights[name], before[name])]:
            raise AbsentError(f"it changed its weights in place: {', '.join(changed)}")
        if gradient.keys() != weights.keys():
            wrong = ", ".join(sorted(gradient.keys() ^ weights.keys()))
            raise AbsentError(f"its gradient and the weights differ in the names {wrong}")
        numbers = {name: g.detach().cpu().numpy() for name, g in gradient.items()}
        return float(loss), _like(inputs.weights, numbers)

    def peak_bytes() -> int | None:
        return torch.cuda.max_memory_allocated() if device == "gpu" else None

    return Program(finished, result, peak_bytes)


def _named(tree: Tree, prefix: str = "") -> Any:
    """The weights one by one, `layers.0.weight`, in PyTorch's layouts."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _named(value, f"{prefix}{key}.")
        elif key == "kernel":
            axes = (3, 2, 0, 1) if value.ndim == 4 else None
            yield f"{prefix}weight", np.ascontiguousarray(value.transpose(axes))
        else:
            yield prefix + _name(key), value.copy()


def _like(tree: Tree, numbers: dict[str, Array], prefix: str = "") -> Tree:
    """The inverse of `_named`, nested as `tree`."""
    made: Tree = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            made[key] = _like(value, numbers, f"{prefix}{key}.")
        else:
            array = numbers[prefix + _name(key)]
            axes = (2, 3, 1, 0) if array.ndim == 4 else None
            made[key] = array.transpose(axes) if key == "kernel" else array
    return made


def _name(key: str) -> str:
    return "weight" if key in ("kernel", "scale") else key


def _episodes(array: Array) -> Tensor:
    if array.dtype.kind in "iu":
        return torch.from_numpy(array.astype(np.int64))
    images = array.ndim == 5
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 2) if images else array))
