"""From a Flax model to a plain pytree of weights and a pure function of them."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors, linen, nnx

from maml_jax.adapters.inputs import inputs_of
from maml_jax.errors import InputError
from maml_jax.types import Apply, Examples, Params


def from_flax(model: nnx.Module | linen.Module) -> tuple[Params, Apply]:
    """The weights of a Flax model, as nested dicts of arrays, and `apply(params, x) -> outputs`.

    Whatever else the model holds is constant: integers among its parameters, its random streams,
    running averages. What a call writes to them is dropped. So a model is refused, here or at its
    first call, where that would be silently wrong: dropout would have one mask for ever, and the
    running averages of a batch norm in evaluation mode would never be updated.

    Args:
      model: an NNX module, or a Linen module bound to its variables, `module.bind(variables)`. It
        takes a batch, `[examples, …]`; a model of several inputs gets the parts of `x`, a tuple.

    Returns:
      The weights, and the model as a function of them.

    Raises:
      InputError: `model` is neither; it is a Linen module without variables; it draws random
        numbers; or it has a batch norm in evaluation mode.
    """
    if isinstance(model, nnx.Module):
        return _from_nnx(model)
    if isinstance(model, linen.Module):
        return _from_linen(model)
    equinox = sys.modules.get("equinox")  # a model of it is there only if it has been imported
    if equinox is not None and isinstance(model, equinox.Module):
        raise InputError("`model` was an Equinox module; pass it to `mj.from_equinox`.")
    raise InputError(f"`model` was a {type(model).__name__}; it must be an NNX or a Linen module.")


def _from_nnx(model: nnx.Module) -> tuple[Params, Apply]:
    for path, module in nnx.iter_modules(model):
        name = ".".join(("model", *map(str, path)))
        if isinstance(module, nnx.BatchNorm) and module.use_running_average:
            raise InputError(
                f"`{name}` uses running averages, which adaptation would never update; call "
                "`model.set_attributes(nnx.BatchNorm, use_running_average=False)` first."
            )
        if isinstance(module, nnx.Dropout) and module.rate > 0 and not module.deterministic:
            raise InputError(
                f"`{name}` is dropout in training mode, which would have one mask for ever; call "
                "`model.set_attributes(nnx.Dropout, deterministic=True)` first."
            )
    definition, weights, rest = nnx.split(model, _is_weight, ...)  # type: ignore[misc]

    def apply(params: Params, x: Examples, /) -> Examples:
        state = jax.tree.map(lambda leaf: leaf, weights)  # a copy, for the next line writes to it
        nnx.replace_by_pure_dict(state, params)
        copy = nnx.merge(definition, state, _as_wide_as(params, rest), copy=True)
        before = _numbers_drawn(copy)
        outputs = copy(*inputs_of(copy.__call__, x))
        if [*map(id, before)] != [*map(id, _numbers_drawn(copy))]:  # under jit they have no values
            raise InputError(
                "`model` draws random numbers, which would be the same in every call; turn that "
                "off (`deterministic=True`, or no dropout rate) first."
            )
        return outputs

    return _string_keys(nnx.to_pure_dict(weights)), apply


def _is_weight(path: Any, variable: Any) -> bool:
    del path
    if not isinstance(variable, nnx.Param):
        return False
    return all(map(_is_inexact, jax.tree.leaves(variable.get_value())))


def _as_wide_as(params: Params, rest: Any) -> Any:
    """`rest` in double precision if the weights are.

    Flax's batch norm writes to its running averages in place, which must not narrow the numbers.
    """
    if not any(jnp.result_type(leaf) == jnp.float64 for leaf in jax.tree.leaves(params)):
        return rest
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, rest
    )


def _numbers_drawn(model: nnx.Module) -> list[Any]:
    """The counters of the model's random streams."""
    return jax.tree.leaves(nnx.state(model, nnx.RngCount))


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
    # Two trees of one structure, with None where the other one has the array.
    weights, constants = (
        jax.tree.map(
            lambda leaf, wanted=wanted: leaf if _is_inexact(leaf) is wanted else None,
            variables["params"],
        )
        for wanted in (True, False)
    )

    def apply(params: Params, x: Examples, /) -> Examples:
        everything = jax.tree.map(
            lambda weight, constant: constant if weight is None else weight,
            params,
            constants,
            is_leaf=lambda node: node is None,
        )
        try:
            with linen.intercept_methods(_refuse_running_averages):
                outputs, _ = module.apply(
                    {"params": everything, **rest},
                    *inputs_of(module.__call__, x),
                    mutable=list(rest),
                )
        except errors.InvalidRngError as error:
            raise InputError(
                "`model` draws random numbers, which would be the same in every call; build it "
                "with `deterministic=True` or without dropout."
            ) from error
        return outputs

    return weights, apply


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _refuse_running_averages(
    call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], context: Any
) -> Any:
    """The call of a Linen module's method, unless it is a batch norm's in evaluation mode."""
    module = context.module
    if isinstance(module, linen.BatchNorm) and context.method_name == "__call__":
        given = options.get("use_running_average", args[1] if len(args) > 1 else None)
        if module.use_running_average if given is None else given:
            name = ".".join(("model", *module.path))
            raise InputError(
                f"`{name}` uses running averages, which adaptation would never update; build it "
                "with `use_running_average=False`."
            )
    return call(*args, **options)
