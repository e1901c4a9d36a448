"""Meta-parameters in PyTorch's layout: the network's weights, and what else is learned.

| group | in JAX | in PyTorch |
|---|---|---|
| `params` | the network's weights | `weights.to_torch` |
| `rates` | `{path: …}` in the weights' shapes | like the weights |
| `rates` | `{path: [steps]}` | the same under the weight's name |
| `norms` | `{path: [steps, channels]}` | the same |
| `projections` | `{path: [context, channels]}` | the same |
| `curvature` | `{path: {axis: matrix}}` | `name/axis`; along a flattened image in its order |
"""

from typing import Any

import numpy as np
import torch

from maml_jax.types import Meta
from parity.models import Weights
from parity.reference import Groups
from parity.weights import Flattened, flatten, to_torch


def is_grouped(meta: Meta) -> bool:
    """Whether there is more than the network's weights."""
    return isinstance(meta, dict) and "params" in meta


def groups_to_torch(meta: Meta, flattened: Flattened) -> Groups:
    """The groups of `meta`, each by PyTorch's names; the dtype stays."""
    if not is_grouped(meta):
        return {"params": to_torch(meta, flattened)}
    groups = {"params": to_torch(meta["params"], flattened)}
    shapes = {path: leaf.shape for path, leaf in flatten(meta["params"]).items()}
    for group, learned in meta.items():
        if group == "curvature":
            groups[group] = {
                f"{torch_name(path)}/{axis}": _tensor(
                    _reordered(matrix, flattened.get(path.rpartition("/")[0]))
                    if axis == "inputs"
                    else matrix
                )
                for path, matrices in learned.items()
                for axis, matrix in matrices.items()
            }
        elif group == "rates" and all(leaf.shape == shapes[path] for path, leaf in learned.items()):
            groups[group] = to_torch(_nested(learned), flattened)
        elif group != "params":
            groups[group] = {torch_name(path): _tensor(leaf) for path, leaf in learned.items()}
    return groups


def merged(groups: Groups) -> Weights:
    """All groups in one; the weights keep their names, the others are `group:name`."""
    return {
        name if group == "params" else f"{group}:{name}": tensor
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def torch_name(path: str) -> str:
    """`head/kernel` as `head.weight`."""
    layer, _, kind = path.rpartition("/")
    return f"{layer}/{'bias' if kind == 'bias' else 'weight'}".replace("/", ".")


def _tensor(leaf: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(leaf))


def _reordered(matrix: Any, image: tuple[int, int, int] | None) -> np.ndarray:
    """A matrix over a flattened image's values: from position by position to channel by channel."""
    matrix = np.asarray(matrix)
    if image is None:
        return matrix
    return matrix.reshape(*image, *image).transpose(2, 0, 1, 5, 3, 4).reshape(matrix.shape)


def _nested(by_path: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in by_path.items():
        *layers, kind = path.split("/")
        branch = tree
        for layer in layers:
            branch = branch.setdefault(layer, {})
        branch[kind] = leaf
    return tree
