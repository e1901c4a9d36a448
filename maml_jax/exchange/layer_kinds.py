"""The layers of Flax whose arrays mean the same in PyTorch, by their types."""

from typing import Any

from flax import nnx

from maml_jax.adapters.flax import from_flax
from maml_jax.errors import InputError
from maml_jax.models.layers import BatchNorm, Conv

LAYERS = (Conv, BatchNorm, nnx.Linear, nnx.Conv, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm)
CELLS = (nnx.GRUCell, nnx.OptimizedLSTMCell)


def params_of(model: nnx.Module) -> dict[str, Any]:
    """The weights of a model all of whose layers are in the tables of `layouts` and `networks`.

    Names and shapes alone do not tell a transposed convolution from a convolution, nor the weights
    that a module of another package makes of its kernel from the kernel.

    Raises:
      InputError: a layer is of another type.
    """
    for path, module in nnx.iter_modules(model):
        of_its_own = any(isinstance(value, nnx.Param) for value in vars(module).values())
        is_cell = isinstance(module, nnx.RNNCellBase)
        if (of_its_own and type(module) not in LAYERS) or (is_cell and type(module) not in CELLS):
            known = ", ".join(kind.__name__ for kind in (*LAYERS[2:], *CELLS))
            name = "/".join(map(str, path)) or "model"
            raise InputError(
                f"`{name}` was a {type(module).__name__}, of which PyTorch's layout is not known "
                f"here; it may be a {known}, or a layer of maml_jax."
            )
    return from_flax(model)[0]
