"""Layers of the PyTorch networks, as functions of all weights and the layer's name."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from parity.torch_tools import Weights


def conv(weights: Weights, name: str, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.conv2d(x, kernel, bias, stride=stride, padding=padding)


def dense(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def batch_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    scale, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    # Without running statistics the batch's own are what it normalises by.
    return F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-5)


def count(weights: Weights, prefix: str) -> int:
    """How many layers there are by the names `prefix.0`, `prefix.1`, …."""
    return len({name.split(".")[1] for name in weights if name.startswith(prefix + ".")})
