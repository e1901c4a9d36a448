"""Single layers from Flax's names and layouts to PyTorch's and back, exactly.

| Flax, `/` between names | PyTorch, `.` between names |
|---|---|
| `kernel` of a convolution `[height, width, in, out]` | `weight` `[out, in, height, width]` |
| `kernel` of a dense layer `[in, out]` | `weight` `[out, in]` |
| `scale` of a norm | `weight` |
| `bias` | `bias` |

A dense layer behind a flattened image also takes its inputs in another order: position by position
in Flax, channel by channel in PyTorch. Only the model knows which layers those are: `flattened`
names them, with the image's `(height, width, channels)`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from maml_jax.errors import InputError

Arrays: TypeAlias = dict[str, np.ndarray]
Flattened: TypeAlias = Mapping[str, tuple[int, int, int]]
"""The dense layers behind a flattened image, as `{"hidden": (height, width, channels)}`."""


def layers_to_torch(params: Any, flattened: Flattened) -> Arrays:
    """PyTorch's weights for the nested dict `params` of Flax, as NumPy arrays; the dtype stays.

    Raises:
      InputError: a weight that is not in the table of this module.
    """
    weights = {}
    leaves = flatten(params)
    for path, leaf in leaves.items():
        layer, _, kind = path.rpartition("/")
        array = np.asarray(leaf)
        if kind == "kernel":
            array = _outputs_first(path, array, flattened.get(layer))
        elif kind in ("scale", "bias"):
            kernel = leaves.get(f"{layer}/kernel".lstrip("/"), array)  # a norm has none
            if array.ndim > 1 or array.shape != np.shape(kernel)[-1:]:
                raise InputError(
                    f"`{path}` had the shape {list(array.shape)}; it must have one value for each "
                    "output of a convolution, a dense layer or a norm."
                )
        weights[torch_name(path)] = array.copy()
    return weights


def layers_to_flax(weights: Mapping[str, np.ndarray], flattened: Flattened) -> dict[str, Any]:
    """The inverse of `layers_to_torch`, with NumPy arrays.

    Raises:
      InputError: an array that is not in the table of this module.
    """
    params: dict[str, Any] = {}
    for name, array in weights.items():
        *layer, kind = name.split(".")
        if kind not in ("weight", "bias") or array.ndim not in (1, 2, 4):
            raise InputError(
                f"`{name}` had the shape {list(array.shape)}; it must be the weight or bias of a "
                "convolution, a dense layer, a norm, or a GRU or LSTM of one layer and direction."
            )
        if kind == "weight":
            kind = "scale" if array.ndim == 1 else "kernel"
        branch = params
        for key in layer:
            branch = branch.setdefault(key, {})
        branch[kind] = _outputs_last(array, flattened.get("/".join(layer))).copy()
    return params


def torch_name(path: str) -> str:
    """`head.weight` for `head/kernel`.

    Raises:
      InputError: a path that ends in neither `kernel` nor `scale` nor `bias`.
    """
    layer, slash, kind = path.rpartition("/")
    if kind not in ("kernel", "scale", "bias"):
        raise InputError(f"`{path}` was neither a kernel nor a scale nor a bias.")
    return f"{layer}{slash}{'bias' if kind == 'bias' else 'weight'}".replace("/", ".")


def flatten(params: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by their paths, as `blocks/0/conv/kernel`."""
    if not isinstance(params, Mapping):
        return {prefix: params}
    return {
        path: leaf
        for key, branch in params.items()
        for path, leaf in flatten(branch, f"{prefix}/{key}" if prefix else str(key)).items()
    }


def _outputs_first(path: str, array: np.ndarray, image: tuple[int, int, int] | None) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim != 2:
        raise InputError(
            f"`{path}` had the shape {list(array.shape)}; a kernel must have 2 or 4 axes."
        )
    if image:
        array = array.reshape(*image, -1).transpose(2, 0, 1, 3)
    return array.reshape(-1, array.shape[-1]).T


def _outputs_last(array: np.ndarray, image: tuple[int, int, int] | None) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 2 and image:
        height, width, channels = image
        array = array.T.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
        return array.reshape(-1, array.shape[-1])
    return array.T
