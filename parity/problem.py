"""A MAML problem, as a diagnosis takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

import maml_jax as mj
from maml_jax.algorithms.anil import is_head
from maml_jax.models.layers import BatchNorm, Conv, max_pool
from maml_jax.types import Apply, Loss, Params


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a meta-gradient of MAML is taken of.

    $$\\tfrac1T \\sum_t \\tfrac{d}{d\\theta} L_{Q_t}(\\varphi_{t,K}), \\qquad
      \\varphi_{k+1} = \\varphi_k - \\alpha\\nabla L_S(\\varphi_k)$$
    """

    apply: Apply
    """The network, as `mj.from_flax` returns it."""
    params: Params
    """θ"""
    episodes: mj.Episode
    """The T tasks, on a leading axis of every array."""
    inner_lr: float
    """α"""
    inner_steps: int
    """K"""
    loss: Loss = mj.losses.softmax_cross_entropy
    """A mean over examples."""
    eval_apply: Apply | None = None
    """The network with its batch norm in evaluation mode (see `in_eval_mode`), if it has one."""
    is_head: Callable[[str], bool] = is_head
    """Which weights are the head's, by their paths."""

    def in_float64(self) -> "Problem":
        """The same with float64 NumPy arrays."""

        def wide(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            return leaf.astype(np.float64) if np.issubdtype(leaf.dtype, np.floating) else leaf

        params, episodes = jax.tree.map(wide, (self.params, self.episodes))
        return Problem(**{**self.__dict__, "params": params, "episodes": episodes})


def in_eval_mode(model: nnx.Module) -> Apply:
    """`apply(params, x)` of a model whose batch norms have the statistics that a new one has: 0, 1.

    What PyTorch's `model.eval()` makes of a network whose running averages were never updated.
    The model itself stays as it is.
    """
    copy = nnx.clone(model)
    for _, module in nnx.iter_modules(copy):
        if isinstance(module, Conv):
            module.normalised = False  # no longer by a norm that takes the bias away
        for name, child in list(vars(module).items()):
            if isinstance(child, BatchNorm):
                setattr(module, name, _FixedNorm(child))
            elif isinstance(child, nnx.List):
                for i, entry in enumerate(child):
                    if isinstance(entry, BatchNorm):
                        child[i] = _FixedNorm(entry)
    return mj.from_flax(copy)[1]


class _FixedNorm(nnx.Module):
    def __init__(self, norm: BatchNorm):
        self.scale, self.bias, self.epsilon = norm.scale, norm.bias, norm.epsilon

    def __call__(self, x: jax.Array, pool: bool = False) -> jax.Array:
        y = x * (self.scale[...] / (1 + self.epsilon) ** 0.5) + self.bias[...]
        return max_pool(y) if pool else y
