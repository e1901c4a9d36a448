"""Each model once more in PyTorch, with the tasks on which it is compared.

The folder is the register: `parity/models/conv4.py` holds the counterpart of the model `conv4`
and lists in `MODELS` in which sizes and on which tasks the two are compared.

The PyTorch functions follow the papers' descriptions with `torch.nn.functional` and share no code
with the Flax models. Images are `[examples, channels, height, width]`, convolution weights
`[out, in, height, width]`, dense weights `[out, in]`, as PyTorch has them everywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import numpy as np
import torch.nn.functional as F  # noqa: N812
from flax import nnx

import maml_jax as mj
from parity import torch_tools
from parity.torch_tools import Forward


class Loss(NamedTuple):
    """A loss on both sides, a mean over examples."""

    jax: Callable[[jax.Array, jax.Array], jax.Array]
    torch: torch_tools.Loss


CROSS_ENTROPY = Loss(mj.losses.softmax_cross_entropy, F.cross_entropy)
SQUARED_ERROR = Loss(mj.losses.mean_squared_error, F.mse_loss)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model on both sides, with the tasks on which it is compared.

    Sizes are small but none is trivial: some image to be pooled has an odd side, and every
    flattened image has several positions and channels, so that a wrong order of them shows.
    """

    variant: str = ""
    """Appended to the model's name where it is compared in more than one form."""
    flax: Callable[[nnx.Rngs], nnx.Module]
    torch: Forward
    episodes: Callable[[np.random.Generator], mj.Episode]
    loss: Loss = CROSS_ENTROPY
    inner_lr: float
    """Large enough that adaptation changes the outputs a lot, small enough not to diverge."""
    flattened: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """The dense layers behind a flattened image, with its `(height, width, channels)`."""
    cost: Literal["small", "medium", "large", "largest"] = "medium"
    """What compilation costs. On a small model every algorithm is compared at every number of
    inner steps. By default only MAML and FOMAML are compared on a large one, and none on the
    largest."""
