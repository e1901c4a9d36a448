"""What float32 costs: as it should be, and with a backend that loses precision in float32."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity.cells import Cell, build_inputs
from parity.compare import compare
from parity.reference.maml import maml
from parity.relative_error import BOUND
from parity.rounding import FACTOR, UNIT, Rounding, errors, sensitivity
from parity.torch_tools import Optimizer

CELL = Cell("maml", "mlp", 2, "mixed")


def single(*values):
    return np.array(values, np.float32)


def test_errors_by_hand():
    exact = {"a": np.array([3.0, 4.0]), "b": np.array([1.0])}
    ours = {"a": single(3, 4.5), "b": single(1)}
    theirs = {"a": single(3, 4), "b": single(1.25)}
    found = errors(ours, theirs, exact)
    assert (found.jax, found.torch, found.difference) == (0.1, 0.25, 0.25)


def test_an_array_that_should_be_zero_is_measured_by_the_whole():
    exact = {"a": np.array([3.0, 4.0]), "b": np.array([1e-17])}
    theirs = {"a": single(3, 4), "b": single(0)}
    found = errors({"a": single(3, 4), "b": single(0.5)}, theirs, exact)
    assert found.jax == found.difference == pytest.approx(0.1)
    # A small one that is not zero is measured by a hundredth of it.
    exact["b"] = np.array([1e-6])
    found = errors({"a": single(3, 4), "b": single(0.5)}, theirs, exact)
    assert found.difference == pytest.approx(10)


@pytest.mark.parametrize("side", [0, 1])
def test_a_backend_that_has_not_computed_in_float32_is_refused(side):
    sides = [{"a": single(1)}, {"a": single(1)}]
    sides[side] = {"a": np.ones(1)}
    with pytest.raises(ValueError, match="was float64; it must be float32"):
        errors(*sides, {"a": np.ones(1)})
    sides[side] = {"b": single(1)}
    with pytest.raises(ValueError, match=r"differ in \['a', 'b'\]"):
        errors(*sides, {"a": np.ones(1)})


def test_the_bound_is_ten_times_the_smaller_error():
    assert Rounding(jax=1e-6, torch=3e-6, difference=9.9e-6).passed
    assert not Rounding(jax=1e-6, torch=2e-5, difference=1.1e-5).passed
    assert not Rounding(jax=2e-5, torch=1e-6, difference=1.1e-5).passed
    # Whatever a side does, the sum of both is never exceeded: it would be no bound.
    assert not Rounding(jax=1e-3, torch=1e-6, difference=1e-3).passed
    assert Rounding(jax=0.0, torch=1e-7, difference=1e-7).bound == FACTOR * UNIT


def test_a_jump_within_rounding_of_the_weights_is_seen():
    meta = {"w": np.array([1 + 1e-8])}

    def with_a_kink_at_one(moved):
        return {"g": np.where(moved["w"] > 1, 2.0, 3.0)}

    def smooth(moved):
        return {"g": moved["w"] ** 3}

    assert sensitivity(with_a_kink_at_one, meta, with_a_kink_at_one(meta)) == 0.5
    assert 0 < sensitivity(smooth, meta, smooth(meta)) < 12.1 * UNIT
    far = {"w": np.array([1.001])}
    assert sensitivity(with_a_kink_at_one, far, with_a_kink_at_one(far)) == 0
    assert Rounding(jax=1e-6, torch=0.5, difference=0.9, sensitivity=0.5).passed
    assert not Rounding(jax=1e-6, torch=0.5, difference=1.1, sensitivity=0.5).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", range(3))
def test_what_is_no_number_fails(bad, place):
    values = [1e-7] * 3
    values[place] = bad
    assert not Rounding(*values).passed


@pytest.mark.parametrize(
    "cell",
    [
        Cell("meta-sgd", "mlp-sinusoid", 1, "mixed"),
        *(
            pytest.param(cell, marks=pytest.mark.slow)  # several precisions to compile
            for cell in (
                Cell("maml", "mlp-batch-norm", 5, "mixed"),
                Cell("maml", "mlp-sinusoid", 5, "mixed", "adam"),
                Cell("maml-plus-plus", "mlp-sinusoid", 5, "mixed"),
                Cell("cavia", "mlp-sinusoid", 5, "mixed"),
                Cell("imaml", "mlp-sinusoid", 5),
            )
        ),
    ],
    ids=lambda cell: cell.name,
)
def test_both_sides_round_alike(cell):
    found = compare(cell, float32=True)
    assert found.passed, found
    # Above what float64 could have, and a thousandth is no rounding.
    assert 1e-9 < found.float32.jax < 1e-3
    assert 1e-9 < found.float32.torch < 1e-3


def test_both_start_from_the_same_float32_numbers():
    inputs = build_inputs(CELL, 0)
    for array in (inputs.params["head"]["kernel"], inputs.episodes.support.x):
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, array.astype(np.float32))


def rough(x):
    """Sixteen bits, where there are thirty-two; what is in double precision stays."""
    if isinstance(x, torch.Tensor):
        return x.bfloat16().to(x.dtype) if x.dtype == torch.float32 else x
    return x.astype(jnp.bfloat16).astype(x.dtype) if x.dtype == jnp.float32 else x


def rough_learner(apply):
    return CELL.learner(lambda params, x: apply(params, rough(x)))


def slightly_long_learner(apply):
    """Outputs that are a ten-thousandth too large, in float32 alone."""

    def longer(params, x):
        out = apply(params, x)
        return out * (1 + 1e-4) if out.dtype == jnp.float32 else out

    return CELL.learner(longer)


def rough_reference(forward, *problem, **options):
    return maml(lambda weights, x: forward(weights, rough(x)), *problem, **options)


@pytest.mark.parametrize(
    ("side", "to_blame"),
    [
        ({"learner": rough_learner}, "jax"),
        ({"learner": slightly_long_learner}, "jax"),
        ({"reference": rough_reference}, "torch"),
    ],
    ids=["jax: 16 bits", "jax: a ten-thousandth", "torch: 16 bits"],
)
@pytest.mark.slow  # several precisions to compile
def test_a_mistake_in_float32_alone_is_caught(side, to_blame):
    found = compare(CELL, float32=True, **side)
    assert max(found.loss, *found.weights, found.meta_gradient) <= BOUND
    assert not found.passed
    assert not found.float32.passed
    assert 0 < found.float32.sensitivity < found.float32.difference / 2  # computed, and no excuse
    own = {"jax": found.float32.jax, "torch": found.float32.torch}
    assert own.pop(to_blame) > 1e-5
    assert max(own.values()) < 1e-5
    assert replace(found, float32=None).passed  # float64 alone does not see it


def test_adam_is_in_the_precision_of_the_weights():
    """In float32 1 - 0.999 is off by a hundred-thousandth, and Adam's first step by half of it."""
    steps = {}
    for dtype in (torch.float32, torch.float64):
        gradient = {"w": torch.full((1,), 1e3, dtype=dtype)}
        steps[dtype] = Optimizer("adam", 1.0).step({"w": torch.zeros(1, dtype=dtype)}, gradient)
    error = (steps[torch.float32]["w"].double() / steps[torch.float64]["w"] - 1).item()
    of_m, of_v = (float(np.float32(1) - np.float32(b)) / (1 - b) for b in (0.9, 0.999))
    assert error == pytest.approx(of_v**0.5 / of_m - 1, abs=2 * UNIT)
    assert abs(error) > 100 * UNIT
