"""A user's function, in PyTorch and in JAX."""

import jax.numpy as jnp
import pytest
import torch

from maml_jax.errors import InputError
from parity.audit import check
from parity.audit.__main__ import main


def loss(weights, x, labels):
    hidden = torch.tanh(x @ weights["w"] + weights["b"])
    return torch.nn.functional.cross_entropy(hidden, labels)


def example():
    torch.manual_seed(0)
    weights = {"w": torch.randn(4, 3), "b": torch.randn(3)}
    return weights, torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])


def test_a_right_loss():
    report = check(loss, example())
    assert report.correct, str(report)
    assert {cell.transformation for cell in report.cells} >= {
        "grad∘grad",
        "jvp∘jvp",
        "grad∘vmap∘grad",
    }
    assert {cell.verdict for cell in report.cells} == {"right"}


def test_a_detached_branch_is_found():
    def detached(weights, x, labels):
        return loss(weights, x, labels) * (1 + weights["b"].detach().sum())

    report = check(detached, example())
    assert not report.correct
    assert report.cells[0].verdict == "wrong"  # the gradient already
    assert "wrong, relative error" in str(report)


class Cube(torch.autograd.Function):
    """x³ whose gradient forgets that it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return cotangent * 3 * x.detach() ** 2


def test_a_gradient_that_is_right_only_once():
    report = check(Cube.apply, (torch.tensor([1.0, 2.0, -1.5]),))
    verdicts = {(c.mode, c.transformation): c.verdict for c in report.cells}
    assert verdicts["autograd", "grad"] == "right"
    assert verdicts["autograd", "grad∘grad"] == "wrong"


def test_a_kink_at_the_example():
    report = check(lambda x: torch.relu(x).sum(), (torch.tensor([0.0, 1.0]),))
    assert [cell.verdict for cell in report.cells] == ["at a kink"]
    assert "a kink lies at the example" in str(report)


@pytest.mark.slow  # XLA compiles each transformation
def test_a_layer_in_jax():
    report = check(
        lambda w, x: jnp.tanh(x @ w), (jnp.ones((3, 2)) / 3, jnp.arange(6.0).reshape(2, 3))
    )
    assert report.correct, str(report)
    assert {cell.mode for cell in report.cells} == {"jit", "eager"}


def test_bad_examples():
    with pytest.raises(InputError, match="`example` was Tensor; it must be a tuple"):
        check(torch.sin, torch.ones(2))
    with pytest.raises(InputError, match="neither PyTorch and JAX"):
        check(torch.sin, ([1.0],))


def test_by_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_to_audit.py").write_text(
        "import torch\n\ndef act(x):\n    return torch.nn.functional.silu(x)\n\n"
        "def example():\n    return (torch.linspace(-1, 2, 5),)\n",
        "utf-8",
    )
    monkeypatch.chdir(tmp_path)
    assert main(["--my-function", "mine_to_audit:act"]) == 0
    assert "grad∘grad        func     right" in capsys.readouterr().out
    assert main(["--my-function", "mine_to_audit:other"]) == 2
    assert "--my-function was 'other'; mine_to_audit has no such name." in capsys.readouterr().err
