"""Conv4, by strided convolutions and by maxima."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import maml_jax as mj
from parity.episodes import images
from parity.models import Model
from parity.torch_layers import batch_norm, conv, dense
from parity.torch_tools import Weights


def conv4_stride(weights: Weights, x: Tensor) -> Tensor:
    """Four blocks of convolution with stride 2, batch norm, ReLU; mean over positions; a head."""
    for i in range(4):
        x = conv(weights, f"blocks.{i}.conv", x, stride=2, padding=1)
        x = F.relu(batch_norm(weights, f"blocks.{i}.norm", x))
    return dense(weights, "head", x.mean((2, 3)))


def conv4_maxpool(weights: Weights, x: Tensor) -> Tensor:
    """Four blocks of convolution, batch norm, ReLU and 2×2 maximum; a head on all positions."""
    for i in range(4):
        x = conv(weights, f"blocks.{i}.conv", x, padding=1)
        x = F.relu(batch_norm(weights, f"blocks.{i}.norm", x))
        x = F.max_pool2d(x, 2)
    return dense(weights, "head", x.flatten(1))


MODELS = (
    Model(
        variant="stride",
        flax=lambda rngs: mj.models.Conv4(5, filters=8, downsample="stride", rngs=rngs),
        torch=conv4_stride,
        episodes=lambda rng: images(rng, ways=5, shots=1, queries=2, size=28),
        inner_lr=0.4,
    ),
    Model(
        variant="maxpool",
        flax=lambda rngs: mj.models.Conv4(
            3, in_channels=3, filters=8, downsample="maxpool", image_size=34, rngs=rngs
        ),
        torch=conv4_maxpool,
        episodes=lambda rng: images(rng, ways=3, shots=2, queries=2, size=34, channels=3),
        inner_lr=0.2,
        flattened={"head": (2, 2, 8)},
        cost="large",
    ),
)
