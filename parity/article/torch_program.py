"""The article's program in plain PyTorch."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from maml_jax.types import Params
from parity.article.digits import Digits
from parity.article.settings import CLASSES, FLATTENED, LEARNING_RATE
from parity.conversion import to_flax


class Network(nn.Module):
    """The article's network with the softmax at its end, in PyTorch's default initialisation.

    Call with `[examples, 1, 28, 28]`, get `[examples, 10]`: probabilities, or with
    `double_softmax=False` logits.
    """

    def __init__(self, double_softmax: bool = True):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)])
        self.hidden = nn.Linear(64 * 5 * 5, 128)
        self.head = nn.Linear(128, CLASSES)
        self.double_softmax = double_softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convs:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        x = self.head(F.relu(self.hidden(x.flatten(1))))
        return F.softmax(x, dim=1) if self.double_softmax else x


def initial_weights(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The network's weights after `torch.manual_seed(seed)`, drawn in float32, as `dtype`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: weight.to(dtype) for name, weight in Network().state_dict().items()}


def run_torch(
    weights: dict[str, torch.Tensor],
    digits: Digits,
    order: np.ndarray,
    after: Sequence[int],
    *,
    double_softmax: bool = True,
) -> Iterator[Params]:
    """The article's program: yields the weights after each number of steps in `after`.

    Args:
      weights: the initial weights by `Network`'s names; their dtype is that of the computation.
      digits: the training images.
      order: `[batches, 32]`, the indices of the images of each step.
      after: increasing numbers of steps.
      double_softmax: whether the network ends in a softmax, ahead of the loss, which has one.

    Yields:
      Nested dicts of NumPy arrays in Flax's layout.
    """
    network = Network(double_softmax).to(next(iter(weights.values())).dtype)
    network.load_state_dict(weights)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    x = torch.from_numpy(digits.x).unsqueeze(1)
    y = torch.from_numpy(digits.y).long()
    done = 0
    for steps in after:
        for indices in order[done:steps]:
            batch = torch.from_numpy(indices)
            optimizer.zero_grad()
            outputs = network(x[batch].to(network.head.weight.dtype))
            loss_function(outputs, y[batch]).backward()
            optimizer.step()
        done = steps
        yield to_flax(network.state_dict(), FLATTENED)
