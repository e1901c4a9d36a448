"""Conjugate gradients by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from maml_jax.core.solvers import conjugate_gradients


@pytest.mark.parametrize(
    ("diagonal", "steps", "v"),
    [
        ((2, 4), 2, (1 / 2, 1 / 4)),  # solved
        ((2, 4), 9, (1 / 2, 1 / 4)),  # and then left as it is
        # b is along positive curvature: length 2/1. Then r = (−3, 3), p = r + 9b = (6, 12), and
        # pᵀAp = 72 − 144 < 0.
        ((2, -1), 1, (2, 2)),
        ((2, -1), 5, (2, 2)),
        ((-2, 1), 5, (7, 8)),
        ((-2, -1), 5, (7, 8)),
    ],
)
def test_conjugate_gradients_end_where_the_matrix_is_not_positive(diagonal, steps, v, x64):
    diagonal = jnp.asarray(diagonal, float)
    b, otherwise = jnp.ones(2), jnp.asarray([7.0, 8.0])
    found = conjugate_gradients(lambda p: diagonal * p, b, steps, otherwise)
    np.testing.assert_allclose(found, v, rtol=1e-14)
    zero = jnp.zeros(2)
    assert (conjugate_gradients(lambda p: diagonal * p, zero, steps, zero) == 0).all()


def test_a_matrix_of_nan_has_a_solution_of_nan():
    """Not the solution without curvature, which would look right."""
    b = jnp.ones(2)
    assert jnp.isnan(conjugate_gradients(lambda p: jnp.nan * p, b, 3, b)).all()
