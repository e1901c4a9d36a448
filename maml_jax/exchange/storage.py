"""Files of named arrays: safetensors, and the formats that installed packages register.

A package registers a suffix by an entry point in the group `maml_jax.weight_files`: its name is the
suffix, and it loads an object with the two functions of `Format`.
"""

import json
import os
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

import numpy as np

from maml_jax.errors import InputError
from maml_jax.exchange.layouts import Arrays
from maml_jax.extras import require
from maml_jax.files import write_file

SAFETENSORS = ".safetensors"
GROUP = "maml_jax.weight_files"
ALIASES = {".pth": ".pt", ".pth.tar": ".pt", ".ckpt": ".pt"}
"""Other endings of files of a kind."""

_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64}


class Format(Protocol):
    """A format of weight files."""

    def from_bytes(self, content: bytes, file: Path) -> Arrays:
        """The arrays in `content`, in the order of the file; `file` is for error messages."""

    def to_bytes(self, arrays: Arrays) -> bytes:
        """The content of a file that holds `arrays`."""


def check_suffix(file: Path) -> str:
    """The suffix of `file`, if it is one that can be read and written.

    Raises:
      InputError: it is another.
    """
    suffixes = [SAFETENSORS, *_registered()]
    suffix = next((known for end, known in ALIASES.items() if file.name.endswith(end)), file.suffix)
    if suffix not in suffixes:
        more = "" if suffixes[1:] else "; for others, pip install 'maml-jax[parity]'"
        raise InputError(f"`file` was {file}; its name must end in {' or '.join(suffixes)}{more}.")
    return suffix


def read(file: Path) -> Arrays:
    """The arrays in `file`; those of a safetensors file have no order. No code in it is run.

    Raises:
      InputError: it cannot be read, or it is not what its suffix says.
    """
    suffix = check_suffix(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"`file` was {file}; it cannot be read: {error.strerror}.") from error
    if suffix == SAFETENSORS:
        return _from_safetensors(file, content)
    return _format(suffix).from_bytes(content, file)


def read_header(file: Path) -> dict[str, str]:
    """What the header of a safetensors file says besides its arrays; nothing of other files."""
    if check_suffix(file) != SAFETENSORS:
        return {}
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return header.get("__metadata__") or {}


def write(file: Path, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Write `arrays` to the new file `file`, whole or not at all; equal arrays give equal bytes.

    Args:
      file: its suffix is the format.
      arrays: the arrays by name.
      metadata: for the header of a safetensors file; other formats leave it out.

    Raises:
      InputError: it exists, has another suffix, or cannot be written.
    """
    check_new(file)
    suffix = check_suffix(file)
    if suffix == SAFETENSORS:
        content = _to_safetensors(arrays, metadata)
    else:
        content = _format(suffix).to_bytes(arrays)
    write_file(file, content, argument="file")


def check_new(file: Path) -> None:
    """Check that `file` can be written.

    Raises:
      InputError: its suffix is unknown, its folder is missing, or it exists.
    """
    check_suffix(file)
    if not file.parent.is_dir():
        raise InputError(f"`file` was {file}; {file.parent} must be a folder that exists.")
    if os.path.lexists(file):
        raise InputError(f"`file` was {file}, which exists; name another.")


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _format(suffix: str) -> Format:
    try:
        return _registered()[suffix].load()
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed, which {suffix} files need: "
            "pip install 'maml-jax[parity]'."
        ) from error


def _to_safetensors(arrays: Arrays, metadata: Mapping[str, str]) -> bytes:
    content = require("safetensors.numpy", "cli").save(arrays, dict(metadata))
    # The library writes the metadata in an arbitrary order. Offsets count from the header's end.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the data must be aligned
    return len(header).to_bytes(8, "little") + header + content[end:]


def _from_safetensors(file: Path, content: bytes) -> Arrays:
    library = require("safetensors", "cli")
    try:
        entries = library.deserialize(content)
    except library.SafetensorError as error:
        raise InputError(f"`file` was {file}, which is no safetensors file.") from error
    return {name: _array(name, **entry) for name, entry in entries}


def _array(name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    if dtype not in _TYPES:
        raise InputError(f"`file` had {name} of type {dtype}; weights are floating-point numbers.")
    return np.frombuffer(data, _TYPES[dtype]).reshape(shape)
