"""Flax models as pure functions, and those that would be silently wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import maml_jax as mj
from maml_jax.errors import InputError

X = jnp.linspace(-1, 1, 12).reshape(4, 3)


def bound(module, **options):
    return module.bind(module.init(jax.random.key(0), X, **options))


def test_linen_models_too():
    module = linen.Dense(2)
    variables = module.init(jax.random.key(0), X)
    params, apply = mj.from_flax(module.bind(variables))
    np.testing.assert_array_equal(apply(params, X), module.apply(variables, X))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: linen.Dense(2), "`model` had no variables"),
        (dict, "`model` was a dict"),
        (lambda: eqx.nn.Linear(3, 2, key=jax.random.key(0)), "pass it to `mj.from_equinox`"),
    ],
)
def test_what_is_no_flax_model_is_refused(model, message):
    with pytest.raises(InputError, match=message):
        mj.from_flax(model())


def test_a_batch_norm_of_nnx_sees_the_batch_or_is_refused():
    model = nnx.Sequential(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    params, apply = mj.from_flax(model)
    np.testing.assert_allclose(apply(params, X).mean(0), 0, atol=1e-6)
    model.eval()
    with pytest.raises(InputError, match=r"`model.layers.0` uses running averages"):
        mj.from_flax(model)
    model.set_attributes(nnx.BatchNorm, use_running_average=False)  # as the message says
    mj.from_flax(model)


class Normed(linen.Module):
    """A norm of which only the call may say which statistics it takes."""

    frozen: bool | None = None
    in_the_call: bool | None = None

    @linen.compact
    def __call__(self, x):
        norm = linen.BatchNorm(use_running_average=self.frozen, name="norm")
        return norm(x) if self.in_the_call is None else norm(x, self.in_the_call)


@pytest.mark.parametrize(("frozen", "in_the_call"), [(True, None), (None, True)])
def test_running_averages_of_linen_are_refused(frozen, in_the_call):
    params, apply = mj.from_flax(bound(Normed(frozen, in_the_call)))
    for call in (apply, jax.jit(apply)):
        with pytest.raises(InputError, match=r"`model.norm` uses running averages"):
            call(params, X)


@pytest.mark.parametrize(("frozen", "in_the_call"), [(False, None), (None, False)])
def test_a_batch_norm_of_linen_sees_the_batch(frozen, in_the_call):
    params, apply = mj.from_flax(bound(Normed(frozen, in_the_call)))
    np.testing.assert_allclose(apply(params, X).mean(0), 0, atol=1e-6)


def test_dropout_of_nnx_is_refused_in_training_and_nothing_otherwise():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    with pytest.raises(InputError, match=r"`model.layers.1` is dropout in training mode"):
        mj.from_flax(model)
    model.set_attributes(nnx.Dropout, deterministic=True)  # as the message says
    params, apply = mj.from_flax(model)
    np.testing.assert_array_equal(apply(params, X), model.layers[0](X))
    mj.from_flax(nnx.Sequential(nnx.Dropout(0.0, rngs=rngs)))


class Noisy(nnx.Module):
    """Draws random numbers by itself."""

    def __init__(self, rngs):
        self.rngs = rngs.fork()

    def __call__(self, x):
        return x + jax.random.normal(self.rngs.params(), x.shape)


@pytest.mark.parametrize("transform", [lambda call: call, jax.jit])
def test_any_random_number_of_nnx_is_refused(transform):
    params, apply = mj.from_flax(Noisy(nnx.Rngs(0)))
    with pytest.raises(InputError, match="`model` draws random numbers"):
        transform(apply)(params, X)


def test_dropout_of_linen_is_refused_in_training_and_nothing_otherwise():
    params, apply = mj.from_flax(
        linen.Dropout(0.5, deterministic=False).bind(
            {"params": {}}, rngs={"dropout": jax.random.key(0)}
        )
    )
    with pytest.raises(InputError, match="`model` draws random numbers"):
        apply(params, X)
    params, apply = mj.from_flax(linen.Dropout(0.5, deterministic=True).bind({"params": {}}))
    np.testing.assert_array_equal(apply(params, X), X)


class WithTable(nnx.Module):
    """Among its parameters are integers and a random key."""

    def __init__(self):
        self.scale = nnx.Param(jnp.ones(3))
        self.order = nnx.Param(jnp.array([2, 0, 1]))
        self.key = nnx.Param(jax.random.key(3))

    def __call__(self, x):
        return self.scale[...] * x[:, self.order[...]] + jax.random.uniform(self.key[...], (3,))


class LinenWithTable(linen.Module):
    @linen.compact
    def __call__(self, x):
        order = self.param("order", lambda key: jnp.array([2, 0, 1]))
        key = self.param("key", lambda key: jax.random.key(3))
        scale = self.param("scale", lambda key: jnp.ones(3))
        return scale * x[:, order] + jax.random.uniform(key, (3,))


@pytest.mark.parametrize("make", [WithTable, lambda: bound(LinenWithTable())])
def test_parameters_that_have_no_gradient_are_constant(make):
    params, apply = mj.from_flax(make())
    assert [leaf.dtype for leaf in jax.tree.leaves(params)] == [jnp.float32]
    expected = 2 * X[:, jnp.array([2, 0, 1])] + jax.random.uniform(jax.random.key(3), (3,))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    np.testing.assert_allclose(apply(doubled, X), expected, rtol=1e-6)
    grads = jax.grad(lambda params: apply(params, X).sum())(params)
    np.testing.assert_allclose(
        jax.tree.leaves(grads)[0], X[:, jnp.array([2, 0, 1])].sum(0), rtol=1e-5
    )
