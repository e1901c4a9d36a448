"""The network of the article that this project follows."""

import jax
from flax import nnx

from maml_jax.errors import InputError, check_count
from maml_jax.models.layers import Conv, max_pool
from maml_jax.models.layers.examples import (
    Features,
    Images,
    ModelConfig,
    Outputs,
    Shape,
    check_images,
    image_size_and_channels,
)

# PyTorch's default for convolutions and dense layers: uniform within ±1/√fan_in, biases likewise.
_torch_kernel = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _torch_bias(fan_in: int) -> nnx.Initializer:
    bound = fan_in**-0.5
    return lambda key, shape, dtype=float: jax.random.uniform(key, shape, dtype, -bound, bound)


class ArticleCNN(nnx.Module):
    """Two unpadded 3×3 convolutions with ReLU and 2×2 maximum, then dense layers of 128 and `ways`.

    It returns logits; the article's program applies a softmax to them before a loss that applies
    another. Initial weights follow PyTorch's defaults.

    Args:
      ways: how many classes a task has; 10 in the article.
      in_channels: 1 for grey images, 3 for colour.
      image_size: height and width of the images in pixels, at least 10.
      rngs: the random stream for the initial weights.

    Call with `[examples, image_size, image_size, in_channels]`, get `[examples, ways]` logits.
    """

    def __init__(self, ways: int, in_channels: int = 1, image_size: int = 28, *, rngs: nnx.Rngs):
        check_count("ways", ways)
        check_count("in_channels", in_channels)
        check_count("image_size", image_size)
        side = ((image_size - 2) // 2 - 2) // 2
        if side < 1:
            raise InputError(f"`image_size` was {image_size}; it must be at least 10.")

        def convolution(channels: int, filters: int) -> Conv:
            bias = _torch_bias(9 * channels)
            return Conv(channels, filters, kernel_init=_torch_kernel, bias_init=bias, rngs=rngs)

        def dense(features: int, outputs: int) -> nnx.Linear:
            bias = _torch_bias(features)
            return nnx.Linear(
                features, outputs, kernel_init=_torch_kernel, bias_init=bias, rngs=rngs
            )

        self.convs = nnx.List([convolution(in_channels, 32), convolution(32, 64)])
        self.hidden = dense(side * side * 64, 128)
        self.head = dense(128, ways)
        self.input_shape = (image_size, image_size, in_channels)

    def features(self, x: Images) -> Features:
        """What the head sees, `[examples, 128]`."""
        check_images(x, self.input_shape)
        for convolution in self.convs:
            x = max_pool(jax.nn.relu(convolution(x)))
        return jax.nn.relu(self.hidden(x.reshape(x.shape[0], -1)))

    def __call__(self, x: Images) -> Outputs:
        return self.head(self.features(x))


def from_config(
    config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs
) -> ArticleCNN:
    """The article's network for square images `[size, size, channels]`; its widths are fixed."""
    del config
    size, channels = image_size_and_channels("article-cnn", example_shape)
    return ArticleCNN(outputs, channels, size, rngs=rngs)
