"""The precision that a network computes in."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from maml_jax.adapters import PRECISIONS
from maml_jax.errors import check_choice
from maml_jax.types import Apply, Examples, Params


def in_precision(apply: Apply, precision: str) -> Apply:
    """The model computed in another precision, forwards and in all its derivatives.

    Weights, outputs, losses and sums over steps and tasks stay as they are. Arrays in double
    precision, and numbers of Python among the weights, are left alone.

    - `"default"`: as JAX is set: on NVIDIA GPUs since Ampere as `"tensorfloat32"`, on TPUs products
      of bfloat16, on a CPU as `"float32"`.
    - `"float32"`: 24 bits of mantissa.
    - `"tensorfloat32"`: the factors of matrix products and convolutions are rounded to 11 bits,
      where an accelerator has these; a TPU takes three products of bfloat16, a CPU all 24 bits.
    - `"bfloat16"`: weights, inputs and activations are rounded to 8 bits, which halves the memory
      too. A CPU computes this far more slowly than float32.

    Args:
      apply: `apply(params, x) -> outputs`.
      precision: one of these.

    Returns:
      A model of the same weights.

    Raises:
      InputError: an unknown `precision`.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision == "default":
        return apply
    if precision == "bfloat16":

        def rounded(params: Params, x: Examples, /) -> Examples:
            params, x = _replace(jnp.float32, jnp.bfloat16, (params, x))
            return _replace(jnp.bfloat16, jnp.float32, apply(params, x))

        return rounded

    def multiplied(params: Params, x: Examples, /) -> Examples:
        with jax.default_matmul_precision(precision):
            return apply(params, x)

    return multiplied


def _replace(old: Any, new: Any, tree: PyTree) -> Any:
    """The tree with its arrays of dtype `old` in dtype `new`."""

    def one(leaf: Any) -> Any:
        # A number of Python has no dtype: it follows the arrays beside it.
        return leaf.astype(new) if getattr(leaf, "dtype", None) == old else leaf

    return jax.tree.map(one, tree)
