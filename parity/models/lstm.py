"""The LSTM."""

import torch
from torch import Tensor

import maml_jax as mj
from parity.episodes import sequences
from parity.models import Model
from parity.torch_layers import dense
from parity.torch_tools import Weights


def lstm(weights: Weights, x: Tensor) -> Tensor:
    """An LSTM over `[examples, times, values]` from zero, and a head on its last hidden state."""
    h = c = torch.zeros(len(x), weights["cell.dense_h.weight"].shape[1], dtype=x.dtype)
    for x_t in x.unbind(1):
        gates = x_t @ weights["cell.dense_i.weight"].T + dense(weights, "cell.dense_h", h)
        into, forget, candidate, out = gates.chunk(4, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(into) * torch.tanh(candidate)
        h = torch.sigmoid(out) * torch.tanh(c)
    return dense(weights, "head", h)


MODELS = (
    Model(
        variant="sequences",
        flax=lambda rngs: mj.models.Recurrent(2, 8, 3, "lstm", rngs=rngs),
        torch=lstm,
        episodes=lambda rng: sequences(rng, ways=3, shots=2, queries=2),
        inner_lr=0.5,
        cost="large",
    ),
)
