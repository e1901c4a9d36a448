"""The networks in PyTorch, as plain functions of a dict of weights.

Written from the papers' descriptions with `torch.nn.functional`, sharing no code with the Flax
models. Images are `[examples, channels, height, width]`, convolution weights `[out, in, 3, 3]`,
dense weights `[out, in]`, as PyTorch has them everywhere.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Weights: TypeAlias = dict[str, Tensor]
Forward: TypeAlias = Callable[[Weights, Tensor], Tensor]
"""`forward(weights, x) -> outputs`."""


def conv4_stride(weights: Weights, x: Tensor) -> Tensor:
    """Four blocks of convolution with stride 2, batch norm, ReLU; mean over positions; a head."""
    for i in range(4):
        x = _conv(weights, f"blocks.{i}.conv", x, stride=2, padding=1)
        x = F.relu(_batch_norm(weights, f"blocks.{i}.norm", x))
    return _dense(weights, "head", x.mean((2, 3)))


def conv4_maxpool(weights: Weights, x: Tensor) -> Tensor:
    """Four blocks of convolution, batch norm, ReLU and 2×2 maximum; a head on all positions."""
    for i in range(4):
        x = _conv(weights, f"blocks.{i}.conv", x, stride=1, padding=1)
        x = F.relu(_batch_norm(weights, f"blocks.{i}.norm", x))
        x = F.max_pool2d(x, 2)
    return _dense(weights, "head", x.flatten(1))


def article_cnn(weights: Weights, x: Tensor) -> Tensor:
    """Two unpadded convolutions with ReLU and 2×2 maximum, a dense layer with ReLU, a head."""
    for i in range(2):
        x = F.max_pool2d(F.relu(_conv(weights, f"convs.{i}", x, stride=1, padding=0)), 2)
    x = F.relu(_dense(weights, "hidden", x.flatten(1)))
    return _dense(weights, "head", x)


def mlp(weights: Weights, x: Tensor) -> Tensor:
    """Dense layers with ReLU and a linear head, on flattened inputs."""
    x = x.flatten(1)
    for i in range(_count(weights, "layers")):
        x = F.relu(_dense(weights, f"layers.{i}", x))
    return _dense(weights, "head", x)


def mlp_batch_norm(weights: Weights, x: Tensor) -> Tensor:
    """Dense layers, each with batch norm and ReLU, and a linear head, on flattened inputs."""
    x = x.flatten(1)
    for i in range(_count(weights, "layers")):
        x = _dense(weights, f"layers.{i}", x)
        x = F.relu(_batch_norm(weights, f"norms.{i}", x))
    return _dense(weights, "head", x)


def gru(weights: Weights, x: Tensor) -> Tensor:
    """A GRU over `[examples, times, values]` from zero, and a head on its last state."""
    h = torch.zeros(len(x), weights["cell.dense_h.weight"].shape[1], dtype=x.dtype)
    for now in x.unbind(1):
        of_x = _dense(weights, "cell.dense_i", now)
        of_h = h @ weights["cell.dense_h.weight"].T
        (x_reset, x_update, x_new), (h_reset, h_update, h_new) = of_x.chunk(3, 1), of_h.chunk(3, 1)
        update = torch.sigmoid(x_update + h_update)
        h = (1 - update) * torch.tanh(x_new + torch.sigmoid(x_reset + h_reset) * h_new) + update * h
    return _dense(weights, "head", h)


def lstm(weights: Weights, x: Tensor) -> Tensor:
    """An LSTM over `[examples, times, values]` from zero, and a head on its last hidden state."""
    h = c = torch.zeros(len(x), weights["cell.dense_h.weight"].shape[1], dtype=x.dtype)
    for now in x.unbind(1):
        gates = now @ weights["cell.dense_i.weight"].T + _dense(weights, "cell.dense_h", h)
        into, forget, candidate, out = gates.chunk(4, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(into) * torch.tanh(candidate)
        h = torch.sigmoid(out) * torch.tanh(c)
    return _dense(weights, "head", h)


def resnet12(weights: Weights, x: Tensor) -> Tensor:
    """Four blocks of three convolutions beside a shortcut, 2×2 maxima; a head on the mean."""
    for block in (f"blocks.{i}" for i in range(4)):
        shortcut = _conv(weights, f"{block}.shortcut", x, stride=1, padding=0)
        shortcut = _batch_norm(weights, f"{block}.shortcut_norm", shortcut)
        for i in range(3):
            x = _conv(weights, f"{block}.convs.{i}", x, stride=1, padding=1)
            x = _batch_norm(weights, f"{block}.norms.{i}", x)
            x = F.leaky_relu(x + shortcut if i == 2 else x, 0.1)
        x = F.max_pool2d(x, 2)
    return _dense(weights, "head", x.mean((2, 3)))


def _count(weights: Weights, prefix: str) -> int:
    return len({name.split(".")[1] for name in weights if name.startswith(prefix + ".")})


def _conv(weights: Weights, name: str, x: Tensor, *, stride: int, padding: int) -> Tensor:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.conv2d(x, kernel, bias, stride=stride, padding=padding)


def _dense(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _batch_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    scale, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    # No running statistics are given, so the batch's own are all there is to normalise by.
    return F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-5)
