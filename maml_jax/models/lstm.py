"""The LSTM by name: `Recurrent` with a cell of Hochreiter & Schmidhuber 1997."""

from flax import nnx

from maml_jax.models.layers import Recurrent
from maml_jax.models.layers.examples import ModelConfig, Shape, sequence_values


def from_config(
    config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs
) -> Recurrent:
    """An LSTM for sequences of shape `[times, values]`, as wide as `config.hidden[0]`."""
    values = sequence_values("lstm", example_shape)
    return Recurrent(values, config.hidden[0], outputs, "lstm", rngs=rngs)
