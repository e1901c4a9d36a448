"""Public bugs whose programs are too large to be operations of the audit."""

import pytest
import torch
from torch.nn.functional import layer_norm


@pytest.mark.slow  # Inductor writes and compiles a program
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, about itself
def test_chained_modulated_norms_compiled():
    """pytorch#193061: one table of shifts and scales, whose slices modulate two norms.

    Wrong in the programs for GPUs of PyTorch 2.10; those for a CPU do not have the optimisation.
    """
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn((1, 4096, 64), dtype=torch.float64, generator=generator)
    table = torch.randn((1, 4, 64), dtype=torch.float64, generator=generator) / 10

    def loss(table):
        x, (scale, shift, scale_again, shift_again) = normal, table.chunk(4, 1)
        for a, b in ((scale, shift), (scale_again, shift_again)):
            x = x + torch.tanh(layer_norm(x, (64,)) * (1 + a) + b)
        return (x * torch.cos(torch.arange(64, dtype=x.dtype))).sum()

    def gradient(function):
        leaf = table.clone().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf), leaf)
        return found

    eager, compiled = gradient(loss), gradient(torch.compile(loss))
    assert ((compiled - eager).norm() / eager.norm()).item() < 1e-13
