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

from benchmarks.peers import AbsentError, Program, RefusedError
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
    episodes = {
        name: _episodes(array).to(target)
        for name, array in inputs._asdict().items()
        if name != "weights"
    }
    given = weights | episodes
    before = {name: tensor.clone() for name, tensor in given.items()}

    def finished() -> tuple[Tensor, dict[str, Tensor]]:
        # Views, so that what a step asks of them (`requires_grad_`, `grad`) ends with it.
        outputs = step({name: w.detach() for name, w in weights.items()}, *episodes.values())
        if device == "gpu":
            torch.cuda.synchronize()
        return outputs

    def result(outputs: tuple[Tensor, dict[str, Tensor]]) -> tuple[float, Tree]:
        if changed := [name for name in given if not torch.equal(given[name], before[name])]:
            raise RefusedError(f"it changed in place: {', '.join(changed)}")
        loss, gradient = _checked(outputs, weights)
        numbers = {name: g.detach().cpu().numpy() for name, g in gradient.items()}
        return float(loss), _like(inputs.weights, numbers)

    def peak_bytes() -> int | None:
        return torch.cuda.max_memory_allocated() if device == "gpu" else None

    return Program(finished, result, peak_bytes)


def _checked(outputs: Any, weights: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What a step must return, or why it is refused."""
    if not (isinstance(outputs, tuple | list) and len(outputs) == 2):
        raise RefusedError(
            "it must return a pair, the mean loss and a dict of the meta-gradient; it returned a "
            f"{type(outputs).__name__}"
        )
    loss, gradient = outputs
    if not isinstance(gradient, dict):
        raise RefusedError(
            "its meta-gradient must be a dict by the names of the weights; it was a "
            f"{type(gradient).__name__}"
        )
    if gradient.keys() != weights.keys():
        wrong = ", ".join(sorted(map(str, gradient.keys() ^ weights.keys())))
        raise RefusedError(f"its gradient and the weights differ in the names {wrong}")
    for name, part in gradient.items():
        shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        if shape != tuple(weights[name].shape):
            raise RefusedError(
                f"its gradient of {name} must be a tensor of the shape "
                f"{tuple(weights[name].shape)}; it was {shape}"
            )
    return loss, gradient


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
    """Images with channels first, whole numbers as int64."""
    array = np.moveaxis(array, -1, 2) if array.ndim == 5 else array
    array = array.astype(np.int64) if array.dtype.kind in "iu" else array
    return torch.from_numpy(np.ascontiguousarray(array))
