"""From a Flax model to a plain pytree of weights and a pure function of them."""

from typing import Any

import jax
from flax import linen, nnx

from maml_jax.errors import InputError
from maml_jax.types import Apply, Params


def from_flax(model: nnx.Module | linen.Module) -> tuple[Params, Apply]:
    """The weights of a Flax model, as nested dicts of arrays, and `apply(params, x) -> outputs`.

    Whatever else the model holds (random streams, say) is constant: what a call writes to it is
    dropped. A model whose batch norm would read running averages is refused, for the averages
    would never be updated.

    Args:
      model: an NNX module, or a Linen module bound to its variables, `module.bind(variables)`.

    Raises:
      InputError: `model` is neither; it is a Linen module without variables; or it has a batch norm
        in evaluation mode.
    """
    if isinstance(model, nnx.Module):
        return _from_nnx(model)
    if isinstance(model, linen.Module):
        return _from_linen(model)
    raise InputError(f"`model` was a {type(model).__name__}; it must be an NNX or a Linen module.")


def _from_nnx(model: nnx.Module) -> tuple[Params, Apply]:
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm) and module.use_running_average:
            name = ".".join(map(str, path))
            raise InputError(f"`model.{name}` uses running averages; call `model.train()` first.")
    definition, weights, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]

    def apply(params: Params, x: Any) -> Any:
        state = jax.tree.map(lambda leaf: leaf, weights)  # a copy, for the next line writes to it
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(definition, state, rest, copy=True)(x)

    return _string_keys(nnx.to_pure_dict(weights)), apply


def _string_keys(tree: Any) -> Any:
    """NNX numbers the entries of a list; files of weights know only names."""
    if not isinstance(tree, dict):
        return tree
    return {str(key): _string_keys(value) for key, value in tree.items()}


def _from_linen(model: linen.Module) -> tuple[Params, Apply]:
    if model.scope is None:
        raise InputError("`model` had no variables; pass `module.bind(module.init(key, x))`.")
    module, variables = model.unbind()
    rest = {name: value for name, value in variables.items() if name != "params"}

    def apply(params: Params, x: Any) -> Any:
        outputs, _ = module.apply({"params": params, **rest}, x, mutable=list(rest))
        return outputs

    return variables["params"], apply
