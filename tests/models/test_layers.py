"""The layers, held to plain twins."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from problems import distance

from maml_jax.errors import InputError
from maml_jax.models.layers import BatchNorm, conv, conv_reference, max_pool, normalise


@settings(max_examples=4, deadline=None)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_conv_equals_its_plain_twin(size, kernel, channels, stride, padding, seed):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        x = jnp.asarray(rng.normal(size=(2, *size, channels[0])))
        w = jnp.asarray(rng.normal(size=(*kernel, *channels)))

        def through(convolution):
            def energy(x, w):
                return jnp.sum(jnp.sin(convolution(x, w, stride=stride, padding=padding)))

            # The value, both gradients, and the gradient through the gradient.
            second = jax.grad(
                lambda x, w: sum(map(jnp.sum, jax.grad(energy, (0, 1))(x, w))), (0, 1)
            )
            return (
                convolution(x, w, stride=stride, padding=padding),
                jax.grad(energy, (0, 1))(x, w),
                second(x, w),
            )

        assert distance(*(jax.jit(partial(through, f))() for f in (conv, conv_reference))) < 1e-13


def test_conv_smaller_than_its_kernel_is_refused():
    with pytest.raises(InputError, match="`x` was 2×2 with its padding; the kernel is 3×3"):
        conv(jnp.zeros((1, 2, 2, 1)), jnp.zeros((3, 3, 1, 1)))


def test_max_pool_by_hand():
    x = jnp.array([[1.0, 2, 5, 0, 9], [3, 4, 5, 5, 9], [9, 9, 9, 9, 9]])[None, :, :, None]
    np.testing.assert_array_equal(max_pool(x)[0, :, :, 0], [[4, 5]])
    # Of the three fives the first gets the whole gradient; the odd row and column get none.
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)[0, :, :, 0]
    np.testing.assert_array_equal(gradient, [[0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])


@pytest.mark.parametrize(("scale", "largest"), [(2.0, 4), (-2.0, 1), (0.0, 2)])
def test_max_pool_by_the_product_with_a_scale(scale, largest):
    x = jnp.array([[2.0, 1.0], [4.0, 3.0]])[None, :, :, None]
    assert max_pool(x, jnp.array([scale])).item() == largest  # of equal products the first
    gradient = jax.grad(lambda x: max_pool(x, jnp.array([scale])).sum())(x)
    np.testing.assert_array_equal(gradient, x == largest)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_max_pool_does_not_hide_nan(place):
    x = jnp.ones((1, 2, 2, 1)).at[0, *place, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(x)).all()


def test_batch_norm_by_hand(x64):
    norm = BatchNorm(1, epsilon=0.5, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.array([2.0]), jnp.array([10.0])
    # Mean 2, biased variance (1 + 1)/2 = 1: (x − 2)/√1.5 · 2 + 10.
    expected = np.array([[1.0], [3.0]]) * 2 / 1.5**0.5 - 4 / 1.5**0.5 + 10
    np.testing.assert_allclose(norm(jnp.array([[1.0], [3.0]])), expected, rtol=1e-6)


@pytest.mark.parametrize("pool", [False, True])
def test_batch_norm_has_the_derivatives_of_the_formula(pool, x64):
    """To the third order, in the modes that the meta-gradients take."""
    rng = np.random.default_rng(0)
    at = jnp.asarray(rng.normal(size=(3, 4, 5, 2))), jnp.array([0.7, -1.3]), jnp.array([0.2, -0.4])
    towards = jax.tree.map(lambda array: jnp.asarray(rng.normal(size=array.shape)), at)

    def formula(x, scale, bias, epsilon, pool):
        y = jax.nn.standardize(x, (0, 1, 2), epsilon=epsilon) * scale + bias
        if not pool:
            return y
        return lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    weights = rng.normal(size=formula(*at, 1e-2, pool).shape)

    def derivatives(norm):
        def energy(inputs):
            return (weights * jnp.tanh(norm(*inputs, 1e-2, pool))).sum()

        def along(gradient):
            return lambda inputs: sum(
                jnp.vdot(slope, step) for slope, step in zip(gradient(inputs), towards, strict=True)
            )

        def hessian_product(inputs):
            return jax.jvp(jax.grad(energy), (inputs,), (towards,))[1]

        return (
            energy(at),
            jax.grad(energy)(at),
            hessian_product(at),
            jax.grad(along(jax.grad(energy)))(at),
            jax.grad(along(hessian_product))(at),
        )

    assert distance(*map(derivatives, (normalise, formula))) < 1e-13


@pytest.mark.parametrize(("pool", "summed"), [(False, (3, 4, 4, 2)), (True, (3, 2, 2, 2))])
def test_batch_norm_sums_but_twice_in_reverse(pool, summed):
    inputs = jnp.ones((3, 4, 4, 2)), jnp.ones(2), jnp.ones(2)
    y, pull = jax.vjp(partial(normalise, epsilon=1e-5, pool=pool), *inputs)
    steps = jax.make_jaxpr(pull)(y).eqns
    sums = [step.invars[0].aval.shape for step in steps if step.primitive.name == "reduce_sum"]
    assert [shape for shape in sums if len(shape) == 4 and shape[0] == 3] == [summed] * 2
