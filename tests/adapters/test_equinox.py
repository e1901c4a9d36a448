"""Equinox modules as pure functions, and those that would be silently wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import classification

import maml_jax as mj
from maml_jax.errors import InputError

KEY = jax.random.key(0)
X = jnp.linspace(-1, 1, 12).reshape(4, 3)


class Table(eqx.Module):
    """Integers, a number of Python and a function among what it holds."""

    scale: jax.Array
    order: jax.Array
    power: float
    activation: object

    def __call__(self, x, key=None):
        return self.activation(self.scale * x[..., self.order] ** self.power)


def table():
    return Table(jnp.array([1.0, 2.0, 3.0]), jnp.array([2, 0, 1]), 2.0, jnp.tanh)


def test_a_module_is_mapped_over_the_examples_and_learns():
    model = eqx.nn.MLP(6, 3, 5, 1, key=KEY)
    params, apply = mj.from_equinox(model)
    episode = classification(ways=3)
    np.testing.assert_allclose(apply(params, episode.query.x), jax.vmap(model)(episode.query.x))
    learner = mj.maml(apply, 0.1, 2)
    _, grads = jax.jit(learner.value_and_grad)(learner.init(params), episode)
    assert all(leaf.any() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("batched", [False, True])
def test_only_floating_point_arrays_are_weights(batched):
    params, apply = mj.from_equinox(table(), batched=batched)
    (scale,) = jax.tree.leaves(params)
    assert scale.tolist() == [1.0, 2.0, 3.0]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    expected = np.tanh(2 * np.array([1, 2, 3]) * np.asarray(X)[:, [2, 0, 1]] ** 2)
    np.testing.assert_allclose(apply(doubled, X), expected, rtol=1e-5)


def test_a_batched_module_sees_all_examples_together():
    class Centred(eqx.Module):
        shift: jax.Array

        def __call__(self, x):
            return x - x.mean(0) + self.shift

    params, apply = mj.from_equinox(Centred(jnp.zeros(3)), batched=True)
    np.testing.assert_allclose(apply(params, X), X - X.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: jnp.tanh, "`module` was a "),
        (
            lambda: eqx.nn.Sequential([table(), eqx.nn.Dropout(0.5)]),
            r"`module.layers\[1\]` is dropout",
        ),
        (lambda: eqx.nn.BatchNorm(3, "batch", mode="batch"), "is state, as running averages are"),
    ],
)
def test_what_would_be_wrong_is_refused_in_one_line(model, message):
    with pytest.raises(InputError, match=message) as caught:
        mj.from_equinox(model())
    assert len(str(caught.value).splitlines()) == 1


def test_dropout_that_is_off_is_taken():
    model = eqx.nn.Sequential([table(), eqx.nn.Dropout(0.5)])
    params, apply = mj.from_equinox(eqx.nn.inference_mode(model))  # as the message says
    np.testing.assert_allclose(apply(params, X), jax.vmap(table())(X))


def test_without_equinox_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "equinox", None)
    with pytest.raises(InputError, match=r"pip install 'maml-jax\[equinox\]'"):
        mj.from_equinox(table())
