"""Weights from Flax to PyTorch and back, exactly, as tensors by the layers' names in Flax.

The layouts are those of `maml_jax.exchange.layouts`. Recurrent cells stay two dense layers, here
where gradients are converted too: the one bias of Flax has one gradient.
"""

from typing import Any

import torch

from maml_jax.exchange.layouts import Flattened, flatten, layers_to_flax, layers_to_torch
from parity.models import Weights

__all__ = ["Flattened", "flatten", "to_flax", "to_torch"]


def to_torch(params: Any, flattened: Flattened) -> Weights:
    """PyTorch's weights for the nested dict `params` of Flax; the dtype stays."""
    arrays = layers_to_torch(params, flattened)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def to_flax(weights: Weights, flattened: Flattened) -> dict[str, Any]:
    """The inverse of `to_torch`, with NumPy arrays."""
    arrays = {name: tensor.detach().numpy() for name, tensor in weights.items()}
    return layers_to_flax(arrays, flattened)
