"""Files of PyTorch's weights, `torch.save` of a `state_dict`, as bytes.

`maml_jax.exchange` finds this module by the entry point `.pt` of the group `maml_jax.weight_files`.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from maml_jax.errors import InputError


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a .pt file with `arrays` as a `state_dict`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes, file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .pt file, in its order; bfloat16 becomes float32, exactly.

    The content may be a `state_dict`, or a dict that has one under that name. It is read with
    `weights_only=True`, so that it cannot run any code.

    Args:
      content: the bytes of the file.
      file: its path, for error messages.

    Raises:
      InputError: the content is something else.
    """
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a parser of malformed bytes raises many types
        raise InputError(
            f"`file` was {file}, which is no file of tensors, or not of tensors alone "
            f"({type(error).__name__})."
        ) from error
    if isinstance(held, Mapping) and isinstance(held.get("state_dict"), Mapping):
        held = held["state_dict"]
    if not isinstance(held, Mapping):
        raise InputError(
            f"`file` was {file}, which holds a {type(held).__name__}; it must hold a state_dict."
        )
    return {_name(name): _array(name, tensor) for name, tensor in held.items()}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise InputError(f"`file` had the key {name!r}; the keys of a state_dict are names.")
    return name


def _array(name: str, tensor: object) -> np.ndarray:
    if not isinstance(tensor, torch.Tensor) or not _is_plain(tensor):
        raise InputError(f"`file` had no plain tensor under {name}; a state_dict holds tensors.")
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
