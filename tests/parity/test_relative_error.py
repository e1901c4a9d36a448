"""The definition of an error."""

import numpy as np
import pytest

from parity.backends import BackendResult
from parity.cells import Cell
from parity.compare import Errors, measure
from parity.relative_error import BOUND, FLOOR, relative_error

CELL = Cell("maml", "mlp", 1, "mixed")


def test_error_of_a_set_is_that_of_its_worst_array():
    theirs = {"a": np.array([3.0, 4.0]), "b": np.array([1.0])}
    ours = {"a": np.array([3.0, 4.5]), "b": np.array([1.2])}
    path, error = relative_error(ours, theirs)
    assert path == "b"
    assert error == pytest.approx(0.2)


def test_array_that_should_be_zero_is_measured_by_the_whole():
    theirs = {"a": np.array([3.0, 4.0]), "b": np.array([1e-17])}
    ours = {"a": np.array([3.0, 4.0]), "b": np.array([-2e-17])}
    path, error = relative_error(ours, theirs)
    assert path == "b"
    assert error == pytest.approx(3e-17 / (FLOOR * 5))


def test_error_against_zero_is_absolute():
    assert relative_error({"a": np.array([3.0, 4.0])}, {"a": np.zeros(2)})[1] == 5


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_nan_is_the_largest_error(order):
    theirs = dict.fromkeys(order, np.ones(1))
    path, error = relative_error({"a": np.array([np.nan]), "b": np.array([2.0])}, theirs)
    assert path == "a"
    assert np.isnan(error)


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        ({"b": np.ones(2)}, r"only one of the two has the weights \['a', 'b'\]"),
        ({"a": np.ones(3)}, r"`a` was float64\(3,\) against float64\(2,\)"),
        ({"a": np.ones(2, np.float32)}, r"`a` was float32\(2,\) against float64\(2,\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(ours, message):
    with pytest.raises(ValueError, match=message):
        relative_error(ours, {"a": np.ones(2)})


def result(*steps, loss=1.0):
    weights = [{"w": np.array([step])} for step in steps]
    return BackendResult(np.array(loss), [weights, weights], {"w": np.ones(1)}, [])


def test_each_step_has_its_error():
    errors = measure(CELL, result(1.0, 2.5, 4.0), result(1.0, 2.0, 4.0))
    assert errors.weights == (0.0, 0.25, 0.0)
    assert errors.worst == "weights after 1 w"
    assert not errors.passed


@pytest.mark.parametrize(("ours", "theirs"), [((1.0,), (1.0, 2.0)), ((1.0, 2.0), (1.0,))])
def test_missing_step_is_infinitely_wrong(ours, theirs):
    errors = measure(CELL, result(*ours), result(*theirs))
    assert errors.weights == (0.0, np.inf)
    assert errors.worst == "weights after 1 missing on one side"


def test_missing_task_is_refused():
    one, two = result(1.0), result(1.0)
    one.trajectories.pop()
    with pytest.raises(ValueError, match="longer"):
        measure(CELL, one, two)


@pytest.mark.parametrize("bad", [2 * BOUND, np.inf, np.nan])
@pytest.mark.parametrize("place", range(4))
def test_one_bad_error_anywhere_fails(bad, place):
    errors = [0.0, 0.0, BOUND, 0.0]
    assert Errors(CELL, errors[0], tuple(errors[1:3]), errors[3], "").passed
    errors[place] = bad
    assert not Errors(CELL, errors[0], tuple(errors[1:3]), errors[3], "").passed
