"""Weights from Flax to PyTorch and back, exactly.

| Flax, `/` between names | PyTorch, `.` between names |
|---|---|
| `kernel` of a convolution `[height, width, in, out]` | `weight` `[out, in, height, width]` |
| `kernel` of a dense layer `[in, out]` | `weight` `[out, in]` |
| `scale` of a norm | `weight` |
| `bias` | `bias` |

A dense layer behind a flattened image takes its inputs in another order as well: position by
position in Flax, channel by channel in PyTorch. Only the model knows which layers those are, so
`flattened` names them, with the image's `(height, width, channels)`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch

from parity.models import Weights

Flattened: TypeAlias = Mapping[str, tuple[int, int, int]]
"""The dense layers behind a flattened image, as `{"hidden": (height, width, channels)}`."""


def to_torch(params: Any, flattened: Flattened) -> Weights:
    """PyTorch's weights for the nested dict `params` of Flax; the dtype stays."""
    weights = {}
    for path, leaf in flatten(params).items():
        layer, _, kind = path.rpartition("/")
        if kind not in ("kernel", "scale", "bias"):
            raise ValueError(f"`{path}` was neither a kernel nor a scale nor a bias.")
        array = np.asarray(leaf)
        if kind == "kernel" and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif kind == "kernel":
            if layer in flattened:
                array = array.reshape(*flattened[layer], -1).transpose(2, 0, 1, 3)
            array = array.reshape(-1, array.shape[-1]).T
        name = f"{layer}/{'bias' if kind == 'bias' else 'weight'}".replace("/", ".")
        weights[name] = torch.from_numpy(array.copy())
    return weights


def to_flax(weights: Weights, flattened: Flattened) -> dict[str, Any]:
    """The inverse of `to_torch`, with NumPy arrays."""
    params: dict[str, Any] = {}
    for name, tensor in weights.items():
        *layer, kind = name.split(".")
        array = tensor.detach().numpy()
        if kind == "weight":
            kind = "scale" if array.ndim == 1 else "kernel"
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif array.ndim == 2:
            array = array.T
            if image := flattened.get("/".join(layer)):
                height, width, channels = image
                array = array.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
            array = array.reshape(-1, array.shape[-1])
        branch = params
        for key in layer:
            branch = branch.setdefault(key, {})
        branch[kind] = array.copy()
    return params


def flatten(params: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by their paths, as `blocks/0/conv/kernel`."""
    if not isinstance(params, Mapping):
        return {prefix: params}
    return {
        path: leaf
        for key, branch in params.items()
        for path, leaf in flatten(branch, f"{prefix}/{key}" if prefix else str(key)).items()
    }
