"""Meta-Curvature."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maml_jax.exchange.layouts import torch_name
from parity.reference import Comparison
from parity.torch_tools import (
    Forward,
    Groups,
    Loss,
    Optimizer,
    Task,
    TaskResult,
    Weights,
    gradient,
    gradient_by_group,
    leaves,
)


def meta_curvature(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""Meta-Curvature: MAML along gradients times learned matrices (Park & Oliva 2019).

    $$\varphi_{k+1} = \varphi_k - \alpha\,
      \nabla L_S(\varphi_k) \times_1 M_o \times_2 M_i \times_3 M_f$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`, and the matrices as `curvature`, named like `head.weight/outputs`.
      task: S and Q.
      inner_lr: α.
      inner_steps: K.
      optimizer: the inner optimizer.
    """
    start, matrices = leaves(meta["params"]), leaves(meta["curvature"])
    fast, inner = start, Optimizer(optimizer, inner_lr)
    trajectory = [fast]
    for _ in range(inner_steps):
        support_loss = loss(forward(fast, task.support_x), task.support_y)
        slope = gradient(support_loss, fast, create_graph=True)
        fast = inner.step(
            fast, {name: _transformed(name, g, matrices) for name, g in slope.items()}
        )
        trajectory.append(fast)
    query_loss = loss(forward(fast, task.query_x), task.query_y)
    slopes = gradient_by_group(query_loss, {"params": start, "curvature": matrices})
    return TaskResult(query_loss, trajectory, slopes)


def _transformed(name: str, slope: Tensor, matrices: Weights) -> Tensor:
    """A convolution's gradient is `[out, in, positions]`, a dense layer's `[out, in]`."""
    outputs = matrices[f"{name}/outputs"]
    if slope.ndim == 1:
        return outputs @ slope
    inputs = matrices[f"{name}/inputs"]
    if slope.ndim == 2:
        return outputs @ slope @ inputs.T
    positions = matrices[f"{name}/positions"]
    flat = slope.flatten(2)
    return torch.einsum("ao,bi,cp,oip->abc", outputs, inputs, positions, flat).reshape(slope.shape)


def _to_torch(learned: Any, flattened: Mapping[str, tuple[int, int, int]]) -> Weights:
    """`{path: {axis: matrix}}` as `name/axis`; along a flattened image in PyTorch's order."""
    tensors = {}
    for path, matrices in learned.items():
        image = flattened.get(path.rpartition("/")[0])
        for axis, matrix in matrices.items():
            array = np.array(matrix)
            if axis == "inputs" and image is not None:
                split = array.reshape(*image, *image).transpose(2, 0, 1, 5, 3, 4)
                array = split.reshape(array.shape)
            tensors[f"{torch_name(path)}/{axis}"] = torch.from_numpy(array)
    return tensors


COMPARISONS = (Comparison(meta_curvature, groups={"curvature": _to_torch}),)
