"""The LSTM by name: `Recurrent` with a cell of Hochreiter & Schmidhuber 1997."""

from flax import nnx

from maml_jax.models.layers import Recurrent
from maml_jax.models.layers.examples import ModelConfig, Shape, only_width, sequence_values


def from_config(
    config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs
) -> Recurrent:
    """An LSTM for sequences of shape `[times, values]`, of the one width in `hidden`."""
    values = sequence_values("lstm", example_shape)
    return Recurrent(values, only_width("lstm", config.hidden), outputs, "lstm", rngs=rngs)
