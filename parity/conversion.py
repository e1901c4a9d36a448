"""Weights, meta-parameters and episodes from JAX to PyTorch, and weights back, exactly.

The layouts are those of `maml_jax.exchange.layouts`. Recurrent cells stay two dense layers, because
gradients are converted too: Flax's one bias has one gradient.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch

import maml_jax as mj
from maml_jax.exchange.layouts import (
    Flattened,
    flatten,
    layers_to_flax,
    layers_to_torch,
    torch_name,
)
from maml_jax.types import Meta
from parity.reference import GroupToTorch
from parity.relative_error import Arrays
from parity.torch_tools import Groups, Task, Weights


def to_torch(params: Any, flattened: Flattened) -> Weights:
    """PyTorch's weights for the nested dict `params` of Flax; the dtype stays."""
    arrays = layers_to_torch(params, flattened)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def to_flax(weights: Weights, flattened: Flattened) -> dict[str, Any]:
    """The inverse of `to_torch`, with NumPy arrays."""
    return layers_to_flax(to_numpy(weights), flattened)


def to_numpy(weights: Weights) -> Arrays:
    """The same names and layouts, as NumPy arrays."""
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}


def tasks_to_torch(episodes: mj.Episode) -> list[Task]:
    """The tasks of a batch of episodes, images with their channels first."""
    count = len(episodes.support.y)
    return [
        Task(*_batch_to_torch(episode.support), *_batch_to_torch(episode.query))
        for episode in (
            jax.tree.map(lambda leaf, t=t: np.asarray(leaf[t]), episodes) for t in range(count)
        )
    ]


def _batch_to_torch(batch: mj.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = batch
    x = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
    y = y.astype(np.int64) if np.issubdtype(y.dtype, np.integer) else y
    return torch.from_numpy(x.copy()), torch.from_numpy(y.copy())


def is_grouped(meta: Meta) -> bool:
    """Whether there is more than the network's weights."""
    return isinstance(meta, dict) and "params" in meta


def groups_to_torch(
    meta: Meta, flattened: Flattened, conversions: Mapping[str, GroupToTorch]
) -> Groups:
    """The groups of `meta`, each by PyTorch's names; the dtype stays.

    A group of arrays by paths that has the weights' shapes is laid out like the weights, and any
    other keeps its layout, unless `conversions` has a function for it.
    """
    if not is_grouped(meta):
        return {"params": to_torch(meta, flattened)}
    groups = {"params": to_torch(meta["params"], flattened)}
    shapes = {path: leaf.shape for path, leaf in flatten(meta["params"]).items()}
    for group, learned in meta.items():
        if group == "params":
            continue
        if group in conversions:
            groups[group] = conversions[group](learned, flattened)
        elif all(leaf.shape == shapes[path] for path, leaf in learned.items()):
            groups[group] = to_torch(_nested(learned), flattened)
        else:
            groups[group] = {
                torch_name(path): torch.from_numpy(np.array(leaf)) for path, leaf in learned.items()
            }
    return groups


def merged(groups: Groups) -> Weights:
    """All groups in one; the weights keep their names, the others are `group:name`."""
    return {
        name if group == "params" else f"{group}:{name}": tensor
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def _nested(by_path: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in by_path.items():
        *layers, kind = path.split("/")
        branch = tree
        for layer in layers:
            branch = branch.setdefault(layer, {})
        branch[kind] = leaf
    return tree
