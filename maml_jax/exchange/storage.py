"""Files of named arrays: safetensors, and PyTorch's .pt where PyTorch is installed."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maml_jax.errors import InputError
from maml_jax.exchange.layouts import Arrays
from maml_jax.extras import require

SUFFIXES = (".safetensors", ".pt")

_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64}


def check_suffix(file: Path) -> str:
    """The suffix of `file`, if it is one of `SUFFIXES`."""
    if file.suffix not in SUFFIXES:
        raise InputError(f"`file` was {file}; its name must end in {' or '.join(SUFFIXES)}.")
    return file.suffix


def read(file: Path) -> Arrays:
    """The arrays in `file`; those of a .pt file in its order, others by name. Nothing is run.

    Raises:
      InputError: it is not there, or not what its suffix says.
    """
    suffix = check_suffix(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"`file` was {file}; it cannot be read: {error.strerror}.") from error
    if suffix == ".pt":
        require("torch", "parity")
        return require("parity.files", "parity").from_bytes(content, file)
    return _from_safetensors(file, content)


def write(file: Path, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Make `file` of `arrays`, all or nothing; a .pt file has no place for the metadata.

    Raises:
      InputError: it exists, has another suffix, or cannot be written.
    """
    check_new(file)
    if file.suffix == ".pt":
        require("torch", "parity")
        content = require("parity.files", "parity").to_bytes(arrays)
    else:
        content = require("safetensors.numpy", "cli").save(arrays, dict(metadata))
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".") as folder:
            fresh = Path(folder, file.name)
            fresh.write_bytes(content)
            os.replace(fresh, file)
    except OSError as error:
        raise InputError(f"`file` was {file}; it cannot be written: {error.strerror}.") from error


def check_new(file: Path) -> None:
    """Raise an `InputError` unless `file` can be made: a known suffix, a folder, no such file."""
    check_suffix(file)
    if not file.parent.is_dir():
        raise InputError(f"`file` was {file}; {file.parent} must be a folder that exists.")
    if os.path.lexists(file):
        raise InputError(f"`file` was {file}, which exists; name another.")


def _from_safetensors(file: Path, content: bytes) -> Arrays:
    library = require("safetensors", "cli")
    try:
        held = library.deserialize(content)
    except library.SafetensorError as error:
        raise InputError(f"`file` was {file}, which is no safetensors file.") from error
    return {name: _array(name, **array) for name, array in held}


def _array(name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    if dtype not in _TYPES:
        raise InputError(f"`file` had {name} of type {dtype}; weights are floating-point numbers.")
    return np.frombuffer(data, _TYPES[dtype]).reshape(shape)
