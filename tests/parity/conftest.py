"""One thread for PyTorch: its arrays are small here, and other tests run beside it."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
