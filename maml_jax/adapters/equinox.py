"""From an Equinox module to its weights and a pure function of them."""

from typing import TYPE_CHECKING

import jax

from maml_jax.adapters.inputs import inputs_of
from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.types import Apply, Examples, Params

if TYPE_CHECKING:
    import equinox as eqx


def from_equinox(module: "eqx.Module", *, batched: bool = False) -> tuple[Params, Apply]:
    """The weights of an Equinox module and `apply(params, x) -> outputs`.

    The weights are the module with None in place of all that is no floating-point array; the rest
    is constant. Equinox's layers take one example, without a batch axis: `apply` maps the module
    over the leading axis of `x`.

    Args:
      module: a module that is called with one argument, or with the parts of `x`, a tuple.
      batched: True: the module takes a batch, `[examples, …]`, and is called with `x` as it is.

    Returns:
      The weights, and the module as a function of them.

    Raises:
      InputError: `module` is no Equinox module; it has dropout in training mode; it is stateful,
        as `eqx.nn.BatchNorm` is; or Equinox is not installed.
    """
    eqx = require("equinox", "equinox")
    if not isinstance(module, eqx.Module) or not callable(module):
        raise InputError(
            f"`module` was a {type(module).__name__}; it must be a callable `equinox.Module`."
        )
    special = eqx.nn.Dropout, eqx.nn.StateIndex
    for path, node in jax.tree_util.tree_leaves_with_path(
        module, is_leaf=lambda node: isinstance(node, special)
    ):
        name = f"module{jax.tree_util.keystr(path)}"
        if isinstance(node, eqx.nn.StateIndex):
            raise InputError(
                f"`{name}` is state, as running averages are, which adaptation would never update; "
                "take a layer without, such as `eqx.nn.GroupNorm` in place of `eqx.nn.BatchNorm`."
            )
        if isinstance(node, eqx.nn.Dropout) and node.p > 0 and not node.inference:
            raise InputError(
                f"`{name}` is dropout in training mode, for which there is no key; pass "
                "`eqx.nn.inference_mode(module)`."
            )
    weights, rest = eqx.partition(module, eqx.is_inexact_array)

    def apply(params: Params, x: Examples, /) -> Examples:
        whole = eqx.combine(params, rest)
        inputs = inputs_of(whole.__call__, x)
        return whole(*inputs) if batched else jax.vmap(whole)(*inputs)

    return weights, apply
