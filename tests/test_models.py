"""The models and their layers, held to plain twins."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from problems import classification, distance

import maml_jax as mj
from maml_jax.errors import InputError
from maml_jax.models.layers import BatchNorm, conv, conv_reference, max_pool, normalise


@settings(max_examples=8, deadline=None)
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


MODELS = {
    "conv4": lambda rngs: mj.models.Conv4(3, rngs=rngs),
    "conv4, 84×84 in colour": lambda rngs: mj.models.Conv4(3, 3, 8, "maxpool", 84, rngs=rngs),
    "article": lambda rngs: mj.models.ArticleCNN(3, rngs=rngs),
    "mlp": lambda rngs: mj.models.MLP(784, (32, 16), 3, batch_norm=True, rngs=rngs),
    "gru": lambda rngs: mj.models.Recurrent(2, 6, 3, "gru", rngs=rngs),
    "lstm": lambda rngs: mj.models.Recurrent(2, 6, 3, "lstm", rngs=rngs),
    "resnet12": lambda rngs: mj.models.ResNet12(3, 1, (2, 3, 4, 5), 28, rngs=rngs),
}
SHAPES = dict.fromkeys(MODELS, (28, 28, 1)) | {
    "conv4, 84×84 in colour": (84, 84, 3),
    "gru": (7, 2),
    "lstm": (7, 2),
}
# By hand: kernels, biases, and a scale and bias of each norm.
SIZES = {
    "conv4": (9 * 64 + 3 * 9 * 64 * 64) + 4 * 3 * 64 + 64 * 3 + 3,
    "conv4, 84×84 in colour": (9 * 3 * 8 + 3 * 9 * 8 * 8) + 4 * 3 * 8 + 25 * 8 * 3 + 3,
    "article": (9 * 32 + 32) + (9 * 32 * 64 + 64) + (1600 * 128 + 128) + (128 * 3 + 3),
    "mlp": (784 * 32 + 3 * 32) + (32 * 16 + 3 * 16) + (16 * 3 + 3),
    "gru": 3 * (2 * 6 + 6 * 6 + 6) + (6 * 3 + 3),
    "lstm": 4 * (2 * 6 + 6 * 6 + 6) + (6 * 3 + 3),
    "resnet12": sum(
        9 * (n * m + 2 * m * m) + n * m + 4 * 3 * m for n, m in ((1, 2), (2, 3), (3, 4), (4, 5))
    )
    + (5 * 3 + 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_as_pure_functions(name):
    model = MODELS[name](nnx.Rngs(0))
    params, apply = mj.from_flax(model)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == SIZES[name]
    x = classification(size=SHAPES[name]).support.x
    np.testing.assert_allclose(apply(params, x), model(x), rtol=1e-6)
    # The function is of its arguments alone: other weights give other outputs, and no state stays.
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    assert not np.allclose(apply(doubled, x), apply(params, x))
    np.testing.assert_array_equal(apply(params, x), apply(params, x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: mj.models.Conv4(0, rngs=r), "`ways` was 0"),
        (lambda r: mj.models.Conv4(5, filters=2.5, rngs=r), "`filters` was 2.5"),
        (lambda r: mj.models.Conv4(5, downsample="pool", rngs=r), "`downsample` was 'pool'"),
        (lambda r: mj.models.Conv4(5, 1, 8, "maxpool", 15, rngs=r), "`image_size` was 15"),
        (lambda r: mj.models.ArticleCNN(5, image_size=9, rngs=r), "`image_size` was 9"),
        (lambda r: mj.models.MLP(1, (40, 0), 1, rngs=r), r"`hidden\[1\]` was 0"),
        (lambda r: mj.models.Conv4(5, rngs=r)(jnp.zeros((1, 28, 28, 3))), r"`x` had images of"),
        (lambda r: mj.models.Recurrent(2, 4, 3, "gur", rngs=r), "`cell` was 'gur'"),
        (lambda r: mj.models.Recurrent(2, 4, 3, rngs=r)(jnp.zeros((1, 5))), "`x` had the shape"),
        (lambda r: mj.models.ResNet12(5, 1, (8, 8, 8), rngs=r), "`filters` was"),
        (lambda r: mj.models.ResNet12(5, image_size=12, rngs=r), "`image_size` was 12"),
        (lambda r: mj.models.MLP(4, (4,), 1, rngs=r)(jnp.zeros((2, 3))), "`x` had 3 features"),
    ],
)
def test_bad_sizes_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make(nnx.Rngs(0))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_networks_by_their_equations(kind, x64):
    params, apply = mj.from_flax(mj.models.Recurrent(2, 3, 4, kind, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    x = rng.normal(size=(2, 5, 2))
    cell, head = params["cell"], params["head"]
    h = c = np.zeros((2, 3))
    for t in range(5):
        i = x[:, t] @ cell["dense_i"]["kernel"] + cell["dense_i"].get("bias", 0)
        r = h @ cell["dense_h"]["kernel"] + cell["dense_h"].get("bias", 0)
        if kind == "gru":
            (ir, iz, n), (hr, hz, hn) = np.split(i, 3, 1), np.split(r, 3, 1)
            update = sigmoid(iz + hz)
            h = (1 - update) * np.tanh(n + sigmoid(ir + hr) * hn) + update * h
        else:
            into, forget, cand, out = np.split(i + r, 4, 1)
            c = sigmoid(forget) * c + sigmoid(into) * np.tanh(cand)
            h = sigmoid(out) * np.tanh(c)
    expected = h @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(apply(params, x), expected, rtol=1e-12)


def test_linen_models_too():
    module = linen.Dense(2)
    x = jnp.ones((3, 4))
    variables = module.init(jax.random.key(0), x)
    params, apply = mj.from_flax(module.bind(variables))
    np.testing.assert_array_equal(apply(params, x), module.apply(variables, x))


def test_models_that_from_flax_refuses():
    with pytest.raises(InputError, match="`model` had no variables"):
        mj.from_flax(linen.Dense(2))
    with pytest.raises(InputError, match="`model` was a dict"):
        mj.from_flax({})
    norm = nnx.Sequential(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    mj.from_flax(norm)
    norm.eval()
    with pytest.raises(InputError, match=r"`model.layers.0` uses running averages"):
        mj.from_flax(norm)
