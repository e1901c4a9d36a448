"""The multi-layer perceptron: on images, with batch norm, on the sinusoid."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import maml_jax as mj
from parity.episodes import images, sinusoids
from parity.models import SQUARED_ERROR, Model
from parity.torch_layers import batch_norm, count, dense
from parity.torch_tools import Weights


def mlp(weights: Weights, x: Tensor) -> Tensor:
    """Dense layers with ReLU and a linear head, on flattened inputs."""
    x = x.flatten(1)
    for i in range(count(weights, "layers")):
        x = F.relu(dense(weights, f"layers.{i}", x))
    return dense(weights, "head", x)


def mlp_batch_norm(weights: Weights, x: Tensor) -> Tensor:
    """Dense layers, each with batch norm and ReLU, and a linear head, on flattened inputs."""
    x = x.flatten(1)
    for i in range(count(weights, "layers")):
        x = dense(weights, f"layers.{i}", x)
        x = F.relu(batch_norm(weights, f"norms.{i}", x))
    return dense(weights, "head", x)


MODELS = (
    Model(
        flax=lambda rngs: mj.models.MLP(12 * 12 * 3, (32, 16), 5, rngs=rngs),
        torch=mlp,
        episodes=lambda rng: images(rng, ways=5, shots=2, queries=2, size=12, channels=3),
        inner_lr=0.3,
        flattened={"layers/0": (12, 12, 3)},
        cost="small",
    ),
    Model(
        variant="batch-norm",
        flax=lambda rngs: mj.models.MLP(12 * 12 * 3, (32, 16), 5, batch_norm=True, rngs=rngs),
        torch=mlp_batch_norm,
        episodes=lambda rng: images(rng, ways=5, shots=2, queries=2, size=12, channels=3),
        inner_lr=0.4,
        flattened={"layers/0": (12, 12, 3)},
    ),
    Model(
        variant="sinusoid",
        flax=lambda rngs: mj.models.MLP(1, (40, 40), 1, rngs=rngs),
        torch=mlp,
        episodes=lambda rng: sinusoids(rng, shots=10, queries=10),
        loss=SQUARED_ERROR,
        inner_lr=0.001,
        cost="small",
    ),
)
