"""Weights to PyTorch's names and layouts and back, with NumPy alone.

`maml_jax.exchange.transfer` exports and imports run folders and files, as the command line does.
"""

from maml_jax.exchange.layouts import Arrays, Flattened, flatten
from maml_jax.exchange.matching import match
from maml_jax.exchange.networks import flattened_layers, to_flax, to_torch, torch_names

__all__ = [
    "Arrays",
    "Flattened",
    "flatten",
    "flattened_layers",
    "match",
    "to_flax",
    "to_torch",
    "torch_names",
]
