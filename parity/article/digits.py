"""MNIST as the article reads it, and the order of its batches."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from maml_jax.data.sets.mnist import read_digits
from maml_jax.errors import InputError
from parity.article.settings import BATCH


class Digits(NamedTuple):
    """Images `[images, 28, 28]`, float32 from 0 to 1, and their labels `[images]`, int32."""

    x: np.ndarray
    y: np.ndarray


class Mnist(NamedTuple):
    """The two sets, 60,000 and 10,000 images in the original."""

    train: Digits
    test: Digits


def read_mnist(data_dir: Path) -> Mnist:
    """The digits from the four idx files in `data_dir/mnist`, compressed with gzip or not.

    Pixels are divided by 255, as the article's `ToTensor` does.

    Raises:
      InputError: a file is missing, damaged, or not MNIST.
    """

    def digits(part):
        images, labels = read_digits(data_dir, part)
        return Digits(images.astype(np.float32) / np.float32(255), labels.astype(np.int32))

    return Mnist(digits("train"), digits("t10k"))


def batch_order(images: int, epochs: int, seed: int) -> np.ndarray:
    """The indices of each batch, `[epochs · images / 32, 32]`: one permutation per epoch.

    Raises:
      InputError: 32 does not divide `images`; MNIST's 60,000 make 1875 batches.
    """
    if images < BATCH or images % BATCH:
        raise InputError(f"`images` was {images}; it must be a multiple of {BATCH}.")
    orders = [np.random.default_rng([seed, epoch]).permutation(images) for epoch in range(epochs)]
    return np.concatenate(orders).reshape(-1, BATCH)
