"""Meta-parameters in a safetensors file."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.core.trees import by_path, path_name
from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.files import write_file
from maml_jax.types import Meta


def save(path: Path | str, meta: Meta) -> None:
    """Write meta-parameters, or any pytree of arrays, to a safetensors file, whole or not at all.

    Arrays are named by their paths, like `head/kernel`. A file of that name is replaced.

    Args:
      path: the file, `.safetensors`.
      meta: a pytree of arrays.

    Raises:
      InputError: another suffix, a leaf of a type that NumPy lacks (bfloat16), or a file that
        cannot be written.
    """
    path = _checked(path)
    arrays = {name: np.asarray(jnp.asarray(leaf), order="C") for name, leaf in _named(meta).items()}
    content = require("safetensors.numpy", "cli").save(arrays)
    write_file(path, content, argument="path")


def load_meta(path: Path | str, like: Meta) -> Meta:
    """Read meta-parameters that `save` wrote.

    Args:
      path: the file.
      like: a pytree with the structure, shapes and types of what was saved, like
        `learner.init(params)`; its values do not matter.

    Returns:
      A pytree like `like`.

    Raises:
      InputError: the file cannot be read, or its arrays have other names, shapes or types.
    """
    path = _checked(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"`path` was {path}; it cannot be read: {error.strerror}.") from error
    library = require("safetensors", "cli")
    try:
        held = require("safetensors.numpy", "cli").load(content)
    except (library.SafetensorError, KeyError) as error:
        raise InputError(f"`path` was {path}, which is no safetensors file of arrays.") from error
    wanted = {name: _kind(leaf) for name, leaf in _named(like).items()}
    found = {name: _kind(array) for name, array in held.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"`path` was {path}; it holds {found.get(name, 'nothing')} as {name!r}, `like` "
                f"has {wanted.get(name, 'nothing')} there."
            )
    return jax.tree.map_with_path(lambda at, _: jnp.asarray(held[path_name(at)]), like)


def _checked(path: Path | str) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"`path` was {path}; its name must end in .safetensors.")
    return path


def _named(tree: Any) -> dict[str, Any]:
    """The arrays of a pytree by their paths."""
    named = by_path(tree)
    if len(named) < len(jax.tree.leaves(tree)):
        raise InputError("`meta` has two arrays whose paths read the same.")
    for name, leaf in named.items():
        dtype = jnp.result_type(leaf)
        if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf":
            raise InputError(f"`meta` had {name!r} of {dtype}; NumPy has no such numbers.")
    return named


def _kind(leaf: Any) -> str:
    """Type and shape, like `float32[5, 64]`."""
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"
