"""The accuracy that the program reaches, with two softmaxes as in the article, and with one."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from parity.article.digits import Mnist, batch_order
from parity.article.jax_program import accuracy, run_jax
from parity.article.settings import FLATTENED
from parity.article.torch_program import initial_weights
from parity.conversion import to_flax

SOFTMAXES = ("twice", "once")
"""As in the article, and without its second softmax."""


@dataclass(frozen=True)
class Run:
    """One training run of the JAX program, in float32."""

    softmax: str
    """One of `SOFTMAXES`."""
    seed: int
    """The seed of the initial weights and of the order of the batches."""
    accuracy_per_epoch: list[float]
    """The fraction of the test images that are classified correctly, after 1, 2, … epochs."""


def train(digits: Mnist, epochs: int, seed: int, *, double_softmax: bool) -> Iterator[float]:
    """Trains the JAX program in float32 and yields the test accuracy after every epoch."""
    initial = to_flax(initial_weights(seed, torch.float32), FLATTENED)
    order = batch_order(len(digits.train.x), epochs, seed)
    batches = len(order) // epochs
    after = range(batches, len(order) + 1, batches)
    for weights in run_jax(initial, digits.train, order, after, double_softmax=double_softmax):
        yield accuracy(weights, digits.test)


def train_all(
    digits: Mnist,
    epochs: int,
    seeds: Sequence[int],
    softmaxes: Sequence[str],
    log: Callable[[str], None],
) -> list[Run]:
    """A run for every softmax and seed; `log` gets a line after each epoch."""
    runs = []
    started, done = time.monotonic(), 0
    for softmax in softmaxes:
        for seed in seeds:
            curve: list[float] = []
            for value in train(digits, epochs, seed, double_softmax=softmax == "twice"):
                curve.append(value)
                done += 1
                left = len(softmaxes) * len(seeds) * epochs - done
                seconds = (time.monotonic() - started) / done * left
                log(
                    f"softmax {softmax}, seed {seed}, epoch {len(curve)}/{epochs}: "
                    f"test accuracy {value:.2%}, {seconds:.0f} s left"
                )
            runs.append(Run(softmax, seed, curve))
    return runs
