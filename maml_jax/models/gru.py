"""The GRU by name: `Recurrent` with a cell of Cho et al. 2014."""

from flax import nnx

from maml_jax.models.layers import Recurrent
from maml_jax.models.layers.examples import ModelConfig, Shape, only_width, sequence_values


def from_config(
    config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs
) -> Recurrent:
    """A GRU for sequences of shape `[times, values]`, of the one width in `hidden`."""
    values = sequence_values("gru", example_shape)
    return Recurrent(values, only_width("gru", config.hidden), outputs, "gru", rngs=rngs)
