"""Initial weights that are not random: those of another run."""

import logging
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax import registry
from maml_jax.core.trees import by_path, path_name
from maml_jax.errors import InputError
from maml_jax.training.config import Config, ModelOptions
from maml_jax.training.recipes import recipe
from maml_jax.types import Meta, Params

HEAD = "head/"
"""How the paths of the layer begin that another number of classes makes another."""
_OF_NETWORK = tuple(field.name for field in fields(ModelOptions))
_log = logging.getLogger("maml_jax")


def network_as(config: Config, other: Config, input_shape: tuple[int, ...]) -> Config:
    """`config` with the network of `other`, whose examples are `input_shape`, and images made so.

    Raises:
      InputError: `config` asks for another network than its recipe's and `other`'s.
    """
    usual = recipe(config.recipe, config.algorithm)
    wanted: dict[str, Any] = {name: getattr(other, name) for name in _OF_NETWORK}
    if len(input_shape) == 3:
        wanted |= {"image_size": input_shape[0], "channels": input_shape[2]}
    for name, value in wanted.items():
        now = getattr(config, name)
        if now not in (value, getattr(usual, name)):
            raise InputError(
                f"`{name}` was {now}; `init` was {config.init}, which has {value}: leave it out."
            )
    if config.data not in registry.names("data") and "channels" in wanted:
        _log.info("%s: made %s, as %s takes images", config.data, _seen(input_shape), config.init)
    return replace(config, **wanted)


def _seen(input_shape: tuple[int, ...]) -> str:
    """What becomes of pictures, and the remedy where it is not wanted."""
    size = f"{input_shape[0]}×{input_shape[1]}"
    if input_shape[2] != 1:
        return f"{size} and coloured"
    return f"{size} and grey (where colours matter, train without --init)"


def weights_from(init: str, meta: Meta, params: Params) -> Params:
    """The weights of `params`, taken from the meta-parameters of the run `init`.

    A head of another shape, for another number of classes, stays as it is.

    Raises:
      InputError: other layers.
    """
    found = by_path(meta["params"] if isinstance(meta, dict) and "params" in meta else meta)
    wanted = by_path(params)
    for path in sorted(found.keys() | wanted.keys()):
        shapes = [np.shape(tree[path]) if path in tree else None for tree in (found, wanted)]
        if shapes[0] == shapes[1]:
            continue
        if path.startswith(HEAD) and None not in shapes:
            _log.info("%s of %s is %s: it starts at random as %s", path, init, *shapes)
            del found[path]
            continue
        raise InputError(
            f"`init` was {init}, which has {shapes[0] or 'nothing'} as {path}; the model has "
            f"{shapes[1] or 'nothing'} there."
        )
    return jax.tree.map_with_path(
        lambda path, leaf: jnp.asarray(found.get(path_name(path), leaf)), params
    )
