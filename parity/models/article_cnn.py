"""The article's network."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import maml_jax as mj
from parity.episodes import images
from parity.models import Model
from parity.torch_layers import conv, dense
from parity.torch_tools import Weights


def article_cnn(weights: Weights, x: Tensor) -> Tensor:
    """Two unpadded convolutions with ReLU and 2×2 maximum, a dense layer with ReLU, a head."""
    for i in range(2):
        x = F.max_pool2d(F.relu(conv(weights, f"convs.{i}", x)), 2)
    x = F.relu(dense(weights, "hidden", x.flatten(1)))
    return dense(weights, "head", x)


MODELS = (
    Model(
        flax=lambda rngs: mj.models.ArticleCNN(5, image_size=20, rngs=rngs),
        torch=article_cnn,
        episodes=lambda rng: images(rng, ways=5, shots=1, queries=2, size=20),
        inner_lr=0.1,
        flattened={"hidden": (3, 3, 64)},
        cost="large",
    ),
)
