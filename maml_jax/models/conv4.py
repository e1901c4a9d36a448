"""The four-block convolutional network of the few-shot literature."""

import jax
import jax.numpy as jnp
from flax import nnx

from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.models.layers import BatchNorm, Conv
from maml_jax.models.layers.examples import (
    Features,
    Images,
    Maps,
    ModelConfig,
    Outputs,
    Shape,
    check_images,
    image_size_and_channels,
)


class Conv4(nnx.Module):
    """Four blocks of 3×3 convolution, batch norm, ReLU and halving; then a linear head.

    `downsample="stride"`: the convolution has stride 2 and the head sees the mean over positions
    (Finn et al. 2017 for Omniglot). `"maxpool"`: a 2×2 maximum ends each block and the head sees
    every position (Vinyals et al. 2016; Finn et al. for mini-ImageNet with 32 filters). All
    convolutions are padded by 1 on each side, where TensorFlow's SAME pads an even size by 0 and 1.

    Args:
      ways: how many classes a task has.
      in_channels: 1 for grey images, 3 for colour.
      filters: channels of each block.
      downsample: `"stride"` or `"maxpool"`.
      image_size: height and width of the images in pixels, at least 16 for `"maxpool"`.
      norm_order: `"norm-relu"`, or `"relu-norm"`: ReLU, then batch norm.
      norm_epsilon: what batch norm adds to the variance.
      rngs: the random stream for the initial weights.

    Call with `[examples, image_size, image_size, in_channels]`, get `[examples, ways]` logits.
    """

    def __init__(
        self,
        ways: int,
        in_channels: int = 1,
        filters: int = 64,
        downsample: str = "stride",
        image_size: int = 28,
        *,
        norm_order: str = "norm-relu",
        norm_epsilon: float = 1e-5,
        rngs: nnx.Rngs,
    ):
        check_count("ways", ways)
        check_count("in_channels", in_channels)
        check_count("filters", filters)
        check_count("image_size", image_size)
        check_choice("downsample", downsample, ("stride", "maxpool"))
        check_choice("norm_order", norm_order, ("norm-relu", "relu-norm"))
        positions = (image_size // 16) ** 2 if downsample == "maxpool" else 1
        if positions == 0:
            raise InputError(f"`image_size` was {image_size}; four poolings need at least 16.")
        self.blocks = nnx.List(
            [
                _Block(channels, filters, downsample, norm_order, norm_epsilon, rngs=rngs)
                for channels in (in_channels, filters, filters, filters)
            ]
        )
        # The paper's code draws the head from a normal of deviation 0.01, cut at two deviations.
        head_init = nnx.initializers.truncated_normal(0.01)
        self.head = nnx.Linear(positions * filters, ways, kernel_init=head_init, rngs=rngs)
        self.input_shape = (image_size, image_size, in_channels)
        self.pools_positions = downsample == "stride"

    def features(self, x: Images) -> Features:
        """What the head sees, `[examples, features]`."""
        check_images(x, self.input_shape)
        for block in self.blocks:
            x = block(x)
        return jnp.mean(x, (1, 2)) if self.pools_positions else x.reshape(x.shape[0], -1)

    def __call__(self, x: Images) -> Outputs:
        return self.head(self.features(x))


def from_config(config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs) -> Conv4:
    """Conv4 for square images `[size, size, channels]`, by `config.filters` and `.downsample`."""
    size, channels = image_size_and_channels("conv4", example_shape)
    return Conv4(
        outputs,
        channels,
        config.filters,
        config.downsample,
        size,
        norm_order=config.norm_order,
        norm_epsilon=config.norm_epsilon,
        rngs=rngs,
    )


class _Block(nnx.Module):
    def __init__(
        self,
        in_channels: int,
        filters: int,
        downsample: str,
        norm_order: str,
        norm_epsilon: float,
        *,
        rngs: nnx.Rngs,
    ):
        self.norm_last = norm_order == "relu-norm"
        self.conv = Conv(
            in_channels,
            filters,
            stride=2 if downsample == "stride" else 1,
            padding=1,
            normalised=not self.norm_last,
            rngs=rngs,
        )
        self.norm = BatchNorm(filters, epsilon=norm_epsilon, rngs=rngs)
        self.pool = downsample == "maxpool"

    def __call__(self, x: Images) -> Maps:
        x = self.conv(x)
        if self.norm_last:
            return self.norm(jax.nn.relu(x), self.pool)
        return jax.nn.relu(self.norm(x, self.pool))  # the maximum of ReLU is its ReLU
