"""The multi-layer perceptron."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import jax
from flax import nnx
from jaxtyping import Array, Num

from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.models.layers import BatchNorm
from maml_jax.models.layers.examples import Features, ModelConfig, Outputs, Shape


class MLP(nnx.Module):
    """Dense layers with ReLU between them, and a linear head; images are flattened.

    `hidden=(40, 40)` on one input is the sinusoid network of Finn et al. 2017, and
    `(256, 128, 64, 64)` with batch norm their Omniglot network without convolutions. Kernels
    start from a normal of deviation 0.01 cut at two deviations, biases at zero, as in their code.

    Args:
      in_features: inputs per example, all axes but the first taken together.
      hidden: the width of each hidden layer.
      out_features: outputs per example; the ways, for classification.
      batch_norm: normalise each hidden layer by the current batch's statistics.
      norm_order: `"norm-relu"`, or `"relu-norm"`: ReLU, then batch norm.
      norm_epsilon: what batch norm adds to the variance.
      rngs: the random stream for the initial weights.

    Call with `[examples, ...]`, get `[examples, out_features]`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        batch_norm: bool = False,
        *,
        norm_order: str = "norm-relu",
        norm_epsilon: float = 1e-5,
        rngs: nnx.Rngs,
    ):
        widths = (in_features, *hidden)
        check_count("in_features", in_features)
        check_count("out_features", out_features)
        check_choice("norm_order", norm_order, ("norm-relu", "relu-norm"))
        for i, width in enumerate(hidden):
            check_count(f"hidden[{i}]", width)
        init = nnx.initializers.truncated_normal(0.01)
        dense = partial(nnx.Linear, kernel_init=init, rngs=rngs)
        self.layers = nnx.List([dense(n, m) for n, m in pairwise(widths)])
        norms = [BatchNorm(width, epsilon=norm_epsilon, rngs=rngs) for width in hidden]
        self.norms = nnx.List(norms if batch_norm else [])
        self.norm_last = norm_order == "relu-norm"
        self.head = dense(widths[-1], out_features)
        self.in_features = in_features

    def features(self, x: Num[Array, "examples ..."]) -> Features:
        """What the head sees, `[examples, hidden[-1]]`."""
        x = x.reshape(x.shape[0], -1)
        if x.shape[1] != self.in_features:
            raise InputError(f"`x` had {x.shape[1]} features; the model takes {self.in_features}.")
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.norm_last:
                x = jax.nn.relu(x)
            if self.norms:
                x = self.norms[i](x)
            if not self.norm_last:
                x = jax.nn.relu(x)
        return x

    def __call__(self, x: Num[Array, "examples ..."]) -> Outputs:
        return self.head(self.features(x))


def from_config(config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs) -> MLP:
    """An MLP for examples of any shape; with batch norm where an example has several values."""
    features = math.prod(example_shape)
    return MLP(
        features,
        config.hidden,
        outputs,
        batch_norm=features > 1 if config.batch_norm is None else config.batch_norm,
        norm_order=config.norm_order,
        norm_epsilon=config.norm_epsilon,
        rngs=rngs,
    )
