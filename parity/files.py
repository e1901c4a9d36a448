"""Files of PyTorch's weights, `torch.save` of a `state_dict`, as bytes.

`maml_jax.exchange` finds this module by the entry point `.pt` of the group `maml_jax.weight_files`.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from maml_jax.errors import InputError

_USUAL_NAMES = ("state_dict", "model_state_dict", "model", "net", "network")
"""Names under which checkpoints hold the weights of a network."""


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a .pt file with `arrays` as a `state_dict`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes, file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .pt file, in its order; bfloat16 becomes float32, exactly.

    The content may be a `state_dict`; a checkpoint, a dict that holds one at any depth, under
    `state_dict`, `model_state_dict`, `model` or another name; or a list of tensors, which are named
    by their numbers. It is read with `weights_only=True`, so that it cannot run any code.

    Args:
      content: the bytes of the file.
      file: its path, for error messages.

    Raises:
      InputError: the content is something else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors, refused below
            held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a parser of malformed bytes raises many types
        raise InputError(
            f"`file` was {file}, which is no file of tensors, or not of tensors alone "
            f"({type(error).__name__}); torch.save(net.state_dict(), FILE) writes one."
        ) from error
    if isinstance(held, list | tuple):
        held = {str(number): tensor for number, tensor in enumerate(held)}
    if isinstance(held, Mapping) and not _is_state_dict(held):
        held = _inner_state_dict(held, file)
    if not isinstance(held, Mapping):
        raise InputError(
            f"`file` was {file}, which holds a {type(held).__name__}; it must hold a state_dict."
        )
    return {_name(name): _array(name, tensor) for name, tensor in held.items()}


def _is_state_dict(held: object) -> bool:
    return (
        isinstance(held, Mapping)
        and bool(held)
        and all(isinstance(tensor, torch.Tensor) for tensor in held.values())
    )


def _inner_state_dict(checkpoint: Mapping, file: Path) -> Mapping:
    """The one that a checkpoint holds, or the checkpoint itself if there is none.

    Raises:
      InputError: it holds several, and no name tells which is the network's.
    """
    found = dict(_state_dicts(checkpoint))
    usual = [path for path in found if path.rpartition("/")[2] in _USUAL_NAMES]
    wanted = usual if len(usual) == 1 else list(found)
    if len(wanted) > 1:
        raise InputError(
            f"`file` was {file}, which holds several state_dicts: {', '.join(map(repr, wanted))}; "
            "save one of them: torch.save(checkpoint[NAME], FILE)."
        )
    return found[wanted[0]] if wanted else checkpoint


def _state_dicts(held: Mapping, prefix: str = "") -> Iterator[tuple[str, Mapping]]:
    for name, value in held.items():
        path = f"{prefix}{name}"
        if _is_state_dict(value) and all(isinstance(key, str) for key in value):
            yield path, value
        elif isinstance(value, Mapping):
            yield from _state_dicts(value, f"{path}/")


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
