"""The residual network of the later few-shot literature."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from maml_jax.errors import InputError, check_count
from maml_jax.models.layers import BatchNorm, Conv, max_pool
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


class ResNet12(nnx.Module):
    """Four residual blocks of three 3×3 convolutions; a linear head on the mean over positions.

    Each convolution is followed by batch norm, and by a leaky ReLU of slope 0.1 but for the last
    one, which comes after the sum with the shortcut (1×1 convolution and batch norm); a 2×2 maximum
    ends the block. Oreshkin et al.: "TADAM", NeurIPS 2018, with the widths of Lee et al. 2019
    (MetaOptNet); without their dropout.

    Args:
      ways: how many classes a task has.
      in_channels: 1 for grey images, 3 for colour.
      filters: channels of each of the four blocks.
      image_size: height and width of the images in pixels, at least 16.
      norm_epsilon: what batch norm adds to the variance.
      rngs: the random stream for the initial weights.

    Call with `[examples, image_size, image_size, in_channels]`, get `[examples, ways]` logits.
    """

    def __init__(
        self,
        ways: int,
        in_channels: int = 3,
        filters: Sequence[int] = (64, 160, 320, 640),
        image_size: int = 84,
        *,
        norm_epsilon: float = 1e-5,
        rngs: nnx.Rngs,
    ):
        check_count("ways", ways)
        check_count("in_channels", in_channels)
        for i, width in enumerate(filters):
            check_count(f"filters[{i}]", width)
        if len(filters) != 4:
            raise InputError(f"`filters` was {tuple(filters)}; it must be four widths.")
        check_count("image_size", image_size, least=16)
        widths = zip((in_channels, *filters[:3]), filters, strict=True)
        self.blocks = nnx.List([_Block(n, m, norm_epsilon, rngs=rngs) for n, m in widths])
        self.head = nnx.Linear(filters[-1], ways, rngs=rngs)
        self.input_shape = (image_size, image_size, in_channels)

    def features(self, x: Images) -> Features:
        """What the head sees, `[examples, filters[3]]`."""
        check_images(x, self.input_shape)
        for block in self.blocks:
            x = block(x)
        return jnp.mean(x, (1, 2))

    def __call__(self, x: Images) -> Outputs:
        return self.head(self.features(x))


def from_config(
    config: ModelConfig, example_shape: Shape, outputs: int, rngs: nnx.Rngs
) -> ResNet12:
    """ResNet12 for square images `[size, size, channels]`; its first block has `config.filters`."""
    size, channels = image_size_and_channels("resnet12", example_shape)
    widths = [config.filters * width // 64 for width in (64, 160, 320, 640)]
    return ResNet12(outputs, channels, widths, size, norm_epsilon=config.norm_epsilon, rngs=rngs)


class _Block(nnx.Module):
    def __init__(self, in_channels: int, filters: int, epsilon: float, *, rngs: nnx.Rngs):
        channels = (in_channels, filters, filters)
        conv = partial(
            Conv, kernel_init=nnx.initializers.kaiming_normal(), normalised=True, rngs=rngs
        )
        self.convs = nnx.List([conv(n, filters, padding=1) for n in channels])
        norm = partial(BatchNorm, epsilon=epsilon, rngs=rngs)
        self.norms = nnx.List([norm(filters) for _ in channels])
        self.shortcut = conv(in_channels, filters, size=1)
        self.shortcut_norm = norm(filters)

    def __call__(self, x: Images) -> Maps:
        shortcut = self.shortcut_norm(self.shortcut(x))
        for i, (convolution, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(convolution(x))
            x = jax.nn.leaky_relu(x + shortcut if i == 2 else x, 0.1)
        return max_pool(x)
