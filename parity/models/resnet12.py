"""ResNet-12."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import maml_jax as mj
from parity.episodes import images
from parity.models import Model
from parity.torch_layers import batch_norm, conv, dense
from parity.torch_tools import Weights


def resnet12(weights: Weights, x: Tensor) -> Tensor:
    """Four blocks of three convolutions beside a shortcut, 2×2 maxima; a head on the mean."""
    for block in (f"blocks.{i}" for i in range(4)):
        shortcut = conv(weights, f"{block}.shortcut", x)
        shortcut = batch_norm(weights, f"{block}.shortcut_norm", shortcut)
        for i in range(3):
            x = conv(weights, f"{block}.convs.{i}", x, padding=1)
            x = batch_norm(weights, f"{block}.norms.{i}", x)
            x = F.leaky_relu(x + shortcut if i == 2 else x, 0.1)
        x = F.max_pool2d(x, 2)
    return dense(weights, "head", x.mean((2, 3)))


MODELS = (
    Model(
        flax=lambda rngs: mj.models.ResNet12(3, 1, (3, 4, 5, 6), 20, rngs=rngs),
        torch=resnet12,
        episodes=lambda rng: images(rng, ways=3, shots=2, queries=2, size=20),
        inner_lr=0.1,
        cost="largest",
    ),
)
