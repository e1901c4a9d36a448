"""The problem whose meta-gradient a diagnosis checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import maml_jax as mj
from maml_jax.types import Apply, Loss, Params


def is_head(path: str) -> bool:
    """Whether a weight belongs to the last layer, which the models of `maml_jax` call `head`."""
    return path.split("/")[0] == "head"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A network, tasks, and how MAML adapts to them.

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
    """Which weights belong to the head, by their paths."""

    def in_float64(self) -> "Problem":
        """The same problem with float64 NumPy arrays."""

        def wide(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            return leaf.astype(np.float64) if np.issubdtype(leaf.dtype, np.floating) else leaf

        params, episodes = jax.tree.map(wide, (self.params, self.episodes))
        return Problem(**{**self.__dict__, "params": params, "episodes": episodes})
