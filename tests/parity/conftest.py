"""One thread for PyTorch, whose arrays are small here, and a tiny MNIST."""

import gzip

import numpy as np
import pytest
import torch
from idx import idx

from parity.article.digits import Digits

FILES = {"train": 96, "t10k": 5}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def arrays():
    """A tiny MNIST, by its files' names."""
    generator = np.random.default_rng(0)
    found = {}
    for name, count in FILES.items():
        noise = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        found[f"{name}-images-idx3-ubyte"] = noise * (noise > 120)  # flat areas, as digits have
        found[f"{name}-labels-idx1-ubyte"] = generator.integers(0, 10, count, dtype=np.uint8)
    return found


@pytest.fixture
def folder(tmp_path, arrays):
    """A folder like the one that holds MNIST; the test images are packed, the rest is not."""
    (tmp_path / "mnist").mkdir()
    for name, array in arrays.items():
        (tmp_path / "mnist" / name).write_bytes(idx(array))
    plain = tmp_path / "mnist" / "t10k-images-idx3-ubyte"
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return tmp_path


@pytest.fixture(scope="module")
def digits(arrays):
    """Its training images."""
    return Digits(
        arrays["train-images-idx3-ubyte"].astype(np.float32) / 255,
        arrays["train-labels-idx1-ubyte"].astype(np.int32),
    )
