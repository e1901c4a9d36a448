"""The GRU."""

import torch
from torch import Tensor

import maml_jax as mj
from parity.episodes import sequences
from parity.models import Model
from parity.torch_layers import dense
from parity.torch_tools import Weights


def gru(weights: Weights, x: Tensor) -> Tensor:
    """A GRU over `[examples, times, values]` from zero, and a head on its last state."""
    h = torch.zeros(len(x), weights["cell.dense_h.weight"].shape[1], dtype=x.dtype)
    for x_t in x.unbind(1):
        of_x = dense(weights, "cell.dense_i", x_t)
        of_h = h @ weights["cell.dense_h.weight"].T
        (x_reset, x_update, x_new), (h_reset, h_update, h_new) = of_x.chunk(3, 1), of_h.chunk(3, 1)
        update = torch.sigmoid(x_update + h_update)
        h = (1 - update) * torch.tanh(x_new + torch.sigmoid(x_reset + h_reset) * h_new) + update * h
    return dense(weights, "head", h)


MODELS = (
    Model(
        variant="sequences",
        flax=lambda rngs: mj.models.Recurrent(2, 8, 3, "gru", rngs=rngs),
        torch=gru,
        episodes=lambda rng: sequences(rng, ways=3, shots=2, queries=2),
        inner_lr=0.5,
    ),
)
