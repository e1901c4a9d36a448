"""The benchmark's networks as pure functions of PyTorch tensors, and the weights both ways.

Weights are a flat dict, `"blocks.0.conv.kernel"` and so on, each tensor laid out as PyTorch wants
it: convolutions `[out, in, height, width]`, dense layers `[out, in]`.
"""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.workloads import MLP, Array, Conv4, Network, Tree

Weights: TypeAlias = dict[str, Tensor]


def apply(network: Network, weights: Weights, x: Tensor) -> Tensor:
    """The network's outputs, `[examples, ways]` or `[examples, 1]`."""
    if isinstance(network, Conv4):
        return _conv4(network.downsample, weights, x)
    if isinstance(network, MLP):
        return _mlp(len(network.hidden), weights, x)
    return _resnet12(weights, x)


def loss(network: Network, weights: Weights, x: Tensor, y: Tensor) -> Tensor:
    """The mean loss over the examples: cross-entropy for images, squared error for numbers."""
    return criterion(network, apply(network, weights, x), y)


def criterion(network: Network, outputs: Tensor, y: Tensor) -> Tensor:
    """The same loss from the network's outputs."""
    if isinstance(network, MLP):
        return functional.mse_loss(outputs, y)
    return functional.cross_entropy(outputs, y)


def from_tree(tree: Tree, device: torch.device, prefix: str = "") -> Weights:
    """The weights that PyTorch starts from."""
    weights: Weights = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            weights |= from_tree(value, device, f"{prefix}{key}.")
        else:
            weights[prefix + key] = torch.from_numpy(_to_torch(value)).to(device)
    return weights


def to_tree(weights: Mapping[str, Tensor]) -> Tree:
    """The inverse of `from_tree`, for weights or their gradient."""
    tree: Tree = {}
    for name, tensor in weights.items():
        *path, last = name.split(".")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = _from_torch(tensor.detach().cpu().numpy())
    return tree


def gradient_of(weight: Tensor) -> Tensor:
    """What backward passes have added up for a weight."""
    if weight.grad is None:
        raise RuntimeError("a weight got no gradient")
    return weight.grad


def _conv4(downsample: str, weights: Weights, x: Tensor) -> Tensor:
    for block in range(4):
        conv, norm = f"blocks.{block}.conv.", f"blocks.{block}.norm."
        stride = 2 if downsample == "stride" else 1
        x = functional.conv2d(
            x, weights[conv + "kernel"], weights[conv + "bias"], stride=stride, padding=1
        )
        scale, shift = weights[norm + "scale"], weights[norm + "bias"]
        x = functional.relu(functional.batch_norm(x, None, None, scale, shift, training=True))
        if downsample == "maxpool":
            x = functional.max_pool2d(x, 2)
    # The head's rows count positions before channels, as the inputs' layout has it.
    x = x.mean((2, 3)) if downsample == "stride" else x.permute(0, 2, 3, 1).flatten(1)
    return functional.linear(x, weights["head.kernel"], weights["head.bias"])


def _resnet12(weights: Weights, x: Tensor) -> Tensor:
    def normalised(conv: str, norm: str, x: Tensor, padding: int) -> Tensor:
        x = functional.conv2d(
            x, weights[conv + ".kernel"], weights[conv + ".bias"], padding=padding
        )
        scale, shift = weights[norm + ".scale"], weights[norm + ".bias"]
        return functional.batch_norm(x, None, None, scale, shift, training=True)

    for block in range(4):
        name = f"blocks.{block}"
        shortcut = normalised(f"{name}.shortcut", f"{name}.shortcut_norm", x, 0)
        for i in range(3):
            x = normalised(f"{name}.convs.{i}", f"{name}.norms.{i}", x, 1)
            x = functional.leaky_relu(x + shortcut if i == 2 else x, 0.1)
        x = functional.max_pool2d(x, 2)
    return functional.linear(x.mean((2, 3)), weights["head.kernel"], weights["head.bias"])


def _mlp(hidden: int, weights: Weights, x: Tensor) -> Tensor:
    for layer in range(hidden):
        name = f"layers.{layer}."
        x = functional.relu(functional.linear(x, weights[name + "kernel"], weights[name + "bias"]))
    return functional.linear(x, weights["head.kernel"], weights["head.bias"])


def _to_torch(array: Array) -> Array:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1).copy()
    return array.T.copy()


def _from_torch(array: Array) -> Array:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T
