"""The references: values by hand, mpmath, and that both agree on every operation."""

import numpy as np
import pytest
from problems import all_but_slow

from parity.audit import numeric
from parity.audit.analytic import derivatives
from parity.audit.cells import NUMERIC_PRECISION, Truth, transformations_of
from parity.audit.head import of_primitives
from parity.audit.operations import OPERATIONS
from parity.audit.points import points
from parity.audit.primitives import NUMPY, torch_primitives

SAMPLE = ("layer_norm", "gelu", "sort", "cholesky")
BY_NAME = {operation.name: operation for operation in OPERATIONS}


def cubic(x):
    return (x**3).sum()


def test_derivatives_from_values_of_a_cubic():
    """3x²u, 6xuv and 6uvt."""
    x, u, v, t = (np.array([k]) for k in (2.0, 0.5, -1.0, 0.25))
    assert numeric.derivative(cubic, (x,), [(u,)]) == pytest.approx(6.0, rel=1e-15)
    assert numeric.derivative(cubic, (x,), [(u,), (v,)]) == pytest.approx(-6.0, rel=1e-12)
    assert numeric.derivative(cubic, (x,), [(u,), (v,), (t,)]) == pytest.approx(-0.75, rel=1e-9)


def test_the_reference_by_a_framework_of_a_cubic():
    """Of a polynomial's known derivatives, by PyTorch."""
    square = BY_NAME["mse_loss"]
    x, y = np.full((3, 4), 1.5), np.full((3, 4), 0.5)
    zero, one = np.zeros((3, 4)), np.ones((3, 4))
    found = derivatives(square, "torch", (x, y), (one, zero), (one, zero))
    # The loss is 1 and its slope 2/12 in each x; the head's are 1 + y + y²/2, 1 + y and 1.
    slope, bend = 2 / 12, 2 / 12
    np.testing.assert_allclose(found.first[0], 2.5 * slope)
    total = 2.0
    np.testing.assert_allclose(found.second[0], 2.5 * bend + 2 * slope * total)


@pytest.mark.parametrize("name", all_but_slow(SAMPLE, "layer_norm"))
def test_sixty_digits_agree_with_the_complex_step(name):
    operation = BY_NAME[name]
    point = points(operation, 0, 1.0)["none"]
    f = of_primitives(NUMPY, operation.reference)
    for along in ([point.u], [point.u, point.v], [point.u, point.v, point.t]):
        if name == "gelu" and len(along) == 3:
            continue  # eight times 48 nodes of mpmath
        exact = numeric.derivative_mpmath(
            lambda xp: of_primitives(xp, operation.reference), point.p, along
        )
        assert numeric.derivative(f, point.p, along) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", ["dense", "layer_norm"])
def test_both_references_agree(name):
    truth = Truth(BY_NAME[name], "jax", 3, 1.0)
    for transformation in transformations_of(BY_NAME[name], "jax"):
        assert truth.disagreement(transformation) < NUMERIC_PRECISION


@pytest.mark.slow  # it differentiates every operation three times at five places
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_both_references_agree_on_every_operation(operation):
    truth = Truth(operation, "jax", 0, 1.0)
    for transformation in transformations_of(operation, "jax"):
        assert truth.disagreement(transformation) < NUMERIC_PRECISION


def test_a_wrong_reference_does_not_pass():
    """The values of another function give another derivative."""
    operation = BY_NAME["silu"]
    truth = Truth(operation, "jax", 0, 1.0)
    right = transformations_of(operation, "jax")[1]
    expected = truth.expected(right)
    other = Truth(BY_NAME["tanh"], "jax", 0, 1.0)
    numbers = (truth.numeric(right, expected), other.numeric(right, expected))
    assert numbers[0] != pytest.approx(numbers[1], rel=1e-3)


def test_there_are_sixty_operations_in_each_framework():
    for stack in ("torch", "jax"):
        assert sum(operation.call(stack) is not None for operation in OPERATIONS) >= 60
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if o.torch is not None], ids=lambda o: o.name
)
def test_references_have_the_values_of_pytorch(operation):
    """The reference of an operation is that operation; its value is the framework's."""
    import torch

    from parity.audit.namespaces import torch_names

    arrays = [torch.tensor(a) for a in operation.arguments(5)]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        theirs = operation.function("torch", torch_names())(*arrays)
    finally:
        torch.set_default_dtype(before)
    ours = operation.reference(torch_primitives(), *arrays)
    torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-10)
