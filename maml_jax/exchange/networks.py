"""Whole networks: the layers of `layouts`, and recurrent cells, which PyTorch divides differently.

| a cell in Flax | in PyTorch's `nn.GRU` or `nn.LSTM` |
|---|---|
| `dense_i/kernel` `[in, gates·hidden]` | `weight_ih_l0` `[gates·hidden, in]` |
| `dense_h/kernel` `[hidden, gates·hidden]` | `weight_hh_l0` `[gates·hidden, hidden]` |
| its one bias, in `dense_i` (GRU) or `dense_h` (LSTM) | `bias_ih_l0`, and `bias_hh_l0`, zero |

The gates of both are r, z, n (`nnx.GRUCell`) or i, f, g, o (`nnx.OptimizedLSTMCell`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from maml_jax.errors import InputError
from maml_jax.exchange.layouts import (
    Arrays,
    Flattened,
    flatten,
    layers_to_flax,
    layers_to_torch,
    torch_name,
)
from maml_jax.training.config import Config

_PARTS = {
    "dense_i.weight": "weight_ih_l0",
    "dense_h.weight": "weight_hh_l0",
    "dense_i.bias": "bias_ih_l0",
    "dense_h.bias": "bias_ih_l0",
}
_BIAS_IN = {3: "dense_i", 4: "dense_h"}  # by the number of gates


def to_torch(params: Any, flattened: Flattened) -> Arrays:
    """PyTorch's weights for the nested dict `params` of Flax, as NumPy arrays; the dtype stays.

    Args:
      params: the weights; or the NNX model itself, whose layers are then checked by their types.
      flattened: the dense layers behind a flattened image.

    Raises:
      InputError: a weight that is in neither table, or of a model a layer that is not.
    """
    if not isinstance(params, Mapping):
        from maml_jax.exchange.layer_kinds import params_of  # Flax, where it is needed

        params = params_of(params)
    weights = layers_to_torch(params, flattened)
    names = torch_names(flatten(params))
    _check_cells(flatten(params), names)
    renamed = {names[path]: weights[torch_name(path)] for path in names}
    for name in [name for name in renamed if name.endswith("bias_ih_l0")]:
        renamed[name.replace("bias_ih_l0", "bias_hh_l0")] = np.zeros_like(renamed[name])
    return renamed


def to_flax(weights: Mapping[str, np.ndarray], flattened: Flattened) -> dict[str, Any]:
    """The inverse of `to_torch`, with NumPy arrays.

    The two biases of a cell are added, because only their sum matters; except in gate n of a GRU,
    whose second bias must be zero.

    Raises:
      InputError: an array that is in neither table, or a bias of gate n that is not zero.
    """
    rest = dict(weights)
    end = "weight_hh_l0"
    for prefix in [name.removesuffix(end) for name in rest if name.endswith(end)]:
        rest |= {f"{prefix}{part}": array for part, array in _cell(prefix, rest).items()}
    return layers_to_flax(rest, flattened)


def torch_names(paths: Iterable[str]) -> dict[str, str]:
    """PyTorch's name for every path of Flax, as `{"head/kernel": "head.weight"}`.

    Raises:
      InputError: a path that ends in neither `kernel` nor `scale` nor `bias`, or a cell that is
        neither a GRU nor an LSTM as the table has them.
    """
    names = {path: torch_name(path) for path in paths}
    plain = set(names.values())
    for path, name in names.items():
        cell, dot, part = _split(name)
        if part not in _PARTS or f"{cell}{dot}dense_h.weight" not in plain:
            continue
        if all(f"{cell}{dot}{side}.bias" in plain for side in ("dense_i", "dense_h")):
            raise InputError(f"`{cell}` had two biases; the cell must be a GRUCell or an LSTM.")
        names[path] = f"{cell}{dot}{_PARTS[part]}"
    return names


def flattened_layers(config: Config, input_shape: tuple[int, ...]) -> Flattened:
    """The dense layers of the config's model that are behind a flattened image of `input_shape`."""
    if len(input_shape) != 3:
        return {}
    height, width, channels = input_shape
    if config.model == "mlp":
        return {"layers/0" if config.hidden else "head": (height, width, channels)}
    if config.model == "conv4" and config.downsample == "maxpool":
        return {"head": (height // 16, width // 16, config.filters)}
    if config.model == "article-cnn":
        return {"hidden": (((height - 2) // 2 - 2) // 2, ((width - 2) // 2 - 2) // 2, 64)}
    return {}


def _check_cells(leaves: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for path, name in names.items():
        if name.endswith("weight_hh_l0"):
            hidden, rows = np.shape(leaves[path])
            if rows % hidden or rows // hidden not in _BIAS_IN:
                raise InputError(
                    f"`{path}` had the shape {[hidden, rows]}; the cell must be a GRUCell, "
                    "[hidden, 3·hidden], or an OptimizedLSTMCell, [hidden, 4·hidden]."
                )


def biases_without_effect(config: Config, names: Iterable[str]) -> frozenset[str]:
    """The biases that a norm right behind takes away; many networks have none there."""
    names = list(names)
    if config.model == "resnet12":
        pattern = r"blocks\.\d+\.(convs\.\d+|shortcut)\.bias"
    elif config.norm_order == "norm-relu" and config.model == "conv4":
        pattern = r"blocks\.\d+\.conv\.bias"
    elif config.norm_order == "norm-relu" and any(name.startswith("norms.") for name in names):
        pattern = r"layers\.\d+\.bias"
    else:
        return frozenset()
    return frozenset(name for name in names if re.fullmatch(pattern, name))


def _split(name: str) -> tuple[str, str, str]:
    """`cell`, `.`, `dense_i.bias` for `cell.dense_i.bias`."""
    layer, _, kind = name.rpartition(".")
    cell, dot, side = layer.rpartition(".")
    return cell, dot, f"{side}.{kind}"


def _cell(prefix: str, rest: Arrays) -> Arrays:
    """The dense layers of one cell; its arrays are removed from `rest`."""
    parts = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    missing = [prefix + part for part in parts if prefix + part not in rest]
    if missing:
        raise InputError(f"`{prefix}weight_hh_l0` was there, but not {', '.join(missing)}.")
    inputs, states, bias, second = (rest.pop(prefix + part) for part in parts)
    hidden = states.shape[-1]
    side = _BIAS_IN.get(len(states) // hidden)
    if side is None:
        raise InputError(
            f"`{prefix}weight_hh_l0` had the shape {list(states.shape)}; it must be that of a GRU, "
            "[3·hidden, hidden], or of an LSTM, [4·hidden, hidden]."
        )
    if side == "dense_i" and np.any(second[-hidden:]):
        raise InputError(
            f"`{prefix}bias_hh_l0` was not zero in its last {hidden} values, those of gate n; they "
            "must be, for Flax's GRU has no bias that gate r multiplies."
        )
    total = np.where(second == 0, bias, bias + second)  # -0.0 + 0.0 would lose its sign
    return {"dense_i.weight": inputs, "dense_h.weight": states, f"{side}.bias": total}
