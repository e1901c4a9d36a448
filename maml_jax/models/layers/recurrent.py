"""Recurrent networks over sequences."""

from typing import TypeAlias

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Num, PyTree

from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.models.layers.examples import Features, Outputs

Sequences: TypeAlias = Num[Array, "examples times values"]


class Recurrent(nnx.Module):
    """A GRU or an LSTM over a sequence, and a linear head on its last hidden state.

    Flax's cells (Cho et al. 2014; Hochreiter & Schmidhuber 1997), from zero states.

    Args:
      in_features: values at each time.
      hidden: the width of the hidden state.
      out_features: outputs per sequence; the ways, for classification.
      cell: `"gru"` or `"lstm"`.
      rngs: the random stream for the initial weights.

    Call with `[examples, times, in_features]`, get `[examples, out_features]`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        cell: str = "gru",
        *,
        rngs: nnx.Rngs,
    ):
        check_count("in_features", in_features)
        check_count("hidden", hidden)
        check_count("out_features", out_features)
        kind = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}
        self.cell = kind[check_choice("cell", cell, kind)](in_features, hidden, rngs=rngs)
        self.head = nnx.Linear(hidden, out_features, rngs=rngs)
        self.in_features, self.hidden, self.kind = in_features, hidden, cell

    def features(self, x: Sequences) -> Features:
        """What the head sees, `[examples, hidden]`."""
        if x.ndim != 3 or x.shape[-1] != self.in_features:
            raise InputError(
                f"`x` had the shape {x.shape}; the model takes (examples, times, "
                f"{self.in_features})."
            )
        lstm = self.kind == "lstm"
        zero = jnp.zeros((len(x), self.hidden), x.dtype)

        def step(state: PyTree[Array], now: Array) -> tuple[PyTree[Array], None]:
            return self.cell(state, now)[0], None

        start: PyTree[Array] = (zero, zero) if lstm else zero
        state, _ = lax.scan(step, start, x.swapaxes(0, 1))
        return state[1] if lstm else state

    def __call__(self, x: Sequences) -> Outputs:
        return self.head(self.features(x))
