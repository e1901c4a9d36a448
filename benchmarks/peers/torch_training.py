"""Training in PyTorch: tasks from its `DataLoader`, some meta-gradient, its Adam.

Claim: the tasks are of the same distribution and size as this project's own: classes and images
without repetition, every class rotated by its own multiple of 90°, or sine curves. Each task is a
function of its number, so that the loader may have several processes. On a GPU it has them, and
pinned memory; on a CPU none, because they would take cores from the arithmetic.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers import CHECKED_EPS, CHECKED_UPDATES, META_LR, Program
from benchmarks.peers.torch_program import Tensors, torch_inputs, torch_program
from benchmarks.workloads import (
    MLP,
    Array,
    Conv4,
    Inputs,
    ResNet12,
    Workload,
    make_images,
    of_images,
)

Backward: TypeAlias = Callable[[Workload, Tensors], Tensor]
"""`backward(workload, tensors) -> mean loss`; the gradient is then in the weights' `grad`."""
Task: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support and query examples with their labels or targets."""
LOADER_PROCESSES = 4
"""On a GPU."""
ENDLESS = 10**9
"""The length that a data set of random tasks claims."""


def training_program(
    workload: Workload, inputs: Inputs, device: str, backward: Backward
) -> Program:
    """`workload.updates` updates in a call, the weights carried from call to call.

    What is checked is the sum of the weights' changes over `CHECKED_UPDATES` updates, with the
    first of the inputs' episodes for every task and Adam's `eps` of `CHECKED_EPS`.
    """
    training = _Training(workload, inputs, device, backward)
    network, dtype = workload.network, training.tensors.query_x.dtype
    if isinstance(network, MLP):
        dataset: Dataset[Task] = Sinusoids(workload.shots, workload.queries)
    else:
        network = of_images(network)
        dataset = Images(make_images(network, seed=0), network, workload.shots, workload.queries)
    loader = DataLoader(
        dataset,
        batch_size=workload.tasks,
        num_workers=LOADER_PROCESSES if device == "gpu" else 0,
        pin_memory=device == "gpu",
    )
    batches: Iterator[Any] = iter(loader)

    def step() -> Tensor:
        return training.update(batches, workload.updates, dtype)

    def check() -> Any:
        eps = CHECKED_EPS[str(inputs.query_x.dtype)]
        fresh = _Training(workload, inputs, device, backward, eps)
        _, *episodes = fresh.tensors
        one = [tensor[:1].expand(tensor.shape).contiguous() for tensor in episodes]
        value = fresh.update(iter([one] * CHECKED_UPDATES), CHECKED_UPDATES, dtype)
        before = torch_inputs(workload, inputs, device).weights
        after = fresh.tensors.weights
        return value, {name: after[name].detach() - before[name] for name in before}

    return torch_program(step, device, check)


class _Training:
    """Weights and the optimiser that changes them."""

    def __init__(
        self,
        workload: Workload,
        inputs: Inputs,
        device: str,
        backward: Backward,
        eps: float = 1e-8,
    ):
        self.tensors = torch_inputs(workload, inputs, device)
        self.weights = [tensor.requires_grad_() for tensor in self.tensors.weights.values()]
        self.optimizer = torch.optim.Adam(self.weights, META_LR, eps=eps)
        self.workload, self.backward = workload, backward

    def update(self, batches: Iterator[Any], count: int, dtype: torch.dtype) -> Tensor:
        """Make `count` updates; returns the mean of their losses."""
        device = self.weights[0].device
        total = torch.zeros((), dtype=dtype, device=device)
        for _ in range(count):
            episodes = [_to_device(tensor, device, dtype) for tensor in next(batches)]
            self.optimizer.zero_grad()
            total += self.backward(self.workload, Tensors(self.tensors.weights, *episodes))
            self.optimizer.step()
        return total / count


def _to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.to(device, wanted, non_blocking=True)


class Images(Dataset[Task]):
    """Tasks of `[examples, channels, height, width]` images in [0, 1] and integer labels.

    Args:
      images: `[classes, images, height, width, channels]`, uint8.
      network: its `ways` are the classes of a task.
      shots: support images per class.
      queries: query images per class.
    """

    def __init__(self, images: Array, network: Conv4 | ResNet12, shots: int, queries: int):
        self.images = np.ascontiguousarray(images.transpose(0, 1, 4, 2, 3))
        self.ways, self.shots, self.queries = network.ways, shots, queries

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Task:
        rng = np.random.default_rng(index)
        classes = rng.choice(len(self.images), self.ways, replace=False)
        rotated = []
        for label in classes:
            chosen = rng.choice(self.images.shape[1], self.shots + self.queries, replace=False)
            turns = int(rng.integers(4))
            rotated.append(np.rot90(self.images[label, chosen], turns, axes=(-2, -1)))
        x = torch.from_numpy(np.stack(rotated)).float() / 255

        def examples(x: Tensor) -> tuple[Tensor, Tensor]:
            return x.flatten(0, 1), torch.arange(self.ways).repeat_interleave(x.shape[1])

        return (*examples(x[:, : self.shots]), *examples(x[:, self.shots :]))


class Sinusoids(Dataset[Task]):
    """Tasks of `[points, 1]` numbers, as `workloads` has them."""

    def __init__(self, shots: int, queries: int):
        self.shots, self.queries = shots, queries

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Task:
        rng = np.random.default_rng(index)
        amplitude, phase = rng.uniform(0.1, 5.0), rng.uniform(0.0, np.pi)
        x = torch.from_numpy(rng.uniform(-5.0, 5.0, (self.shots + self.queries, 1))).float()
        y = amplitude * torch.sin(x - phase)
        return x[: self.shots], y[: self.shots], x[self.shots :], y[self.shots :]
