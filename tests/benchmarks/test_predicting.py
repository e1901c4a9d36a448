"""The calibration error, by hand."""

import numpy as np
import pytest

from benchmarks.predicting import expected_calibration_error


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    """Two pictures of confidence 0.9, one right: a gap of 0.4; two of 0.5, both: a gap of 0.5."""
    probabilities, right = np.array([0.9, 0.9, 0.5, 0.5]), np.array([True, False, True, True])
    assert expected_calibration_error(probabilities, right) == pytest.approx(0.45)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0
