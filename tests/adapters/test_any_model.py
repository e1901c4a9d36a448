"""Models from anywhere: the same network in four frameworks has the same meta-gradient."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from problems import classification

import maml_jax as mj

RNG = np.random.default_rng(0)
KERNELS = RNG.normal(size=(6, 5)) / 2, RNG.normal(size=(5, 3))
BIASES = RNG.normal(size=5) / 5, RNG.normal(size=3) / 5


def by_hand():
    params = [*zip(KERNELS, BIASES, strict=True)]

    def apply(params, x):
        (w, b), (v, c) = params
        return jnp.tanh(x @ w + b) @ v + c

    return params, apply, lambda tree: tree


def by_linen():
    module = linen.Sequential([linen.Dense(5), jnp.tanh, linen.Dense(3)])
    names = ("layers_0", "layers_2")
    variables = {
        name: {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
        for name, w, b in zip(names, KERNELS, BIASES, strict=True)
    }
    params, apply = mj.from_flax(module.bind({"params": variables}))
    return params, apply, lambda tree: [(tree[n]["kernel"], tree[n]["bias"]) for n in names]


def by_nnx():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(6, 5, rngs=rngs), jnp.tanh, nnx.Linear(5, 3, rngs=rngs))
    _, apply = mj.from_flax(model)
    params = {
        "layers": {
            place: {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
            for place, w, b in zip(("0", "2"), KERNELS, BIASES, strict=True)
        }
    }

    def pairs(tree):
        return [(tree["layers"][n]["kernel"], tree["layers"][n]["bias"]) for n in ("0", "2")]

    return params, apply, pairs


def by_equinox():
    model = eqx.nn.MLP(6, 3, 5, 1, activation=jnp.tanh, key=jax.random.key(0))

    def leaves(model):
        return [leaf for layer in model.layers for leaf in (layer.weight, layer.bias)]

    new = [a for w, b in zip(KERNELS, BIASES, strict=True) for a in (w.T, b)]
    model = eqx.tree_at(leaves, model, [jnp.asarray(a) for a in new])
    params, apply = mj.from_equinox(model)
    return params, apply, lambda tree: [(layer.weight.T, layer.bias) for layer in tree.layers]


@pytest.mark.parametrize("make", [by_linen, by_nnx, by_equinox])
@pytest.mark.parametrize(
    "algorithm",
    [
        mj.maml,
        mj.meta_sgd,
        *(
            pytest.param(algorithm, marks=pytest.mark.slow)  # seconds of compiling each
            for algorithm in (mj.reptile, mj.imaml, mj.meta_curvature)
        ),
    ],
)
def test_the_framework_does_not_matter(make, algorithm, x64):
    results = meta_gradient(by_hand, algorithm), meta_gradient(make, algorithm)
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


@functools.cache
def meta_gradient(build, algorithm):
    params, apply, pairs = build()
    learner = algorithm(apply, 0.3, 3)
    meta = learner.init(params)
    (loss, _), grads = jax.jit(mj.over_tasks(learner))(meta, classification(tasks=3))
    of_weights = grads["params"] if isinstance(meta, dict) and "params" in meta else grads
    return loss, pairs(of_weights)


def test_given_weights_are_where_it_starts():
    """Random or pre-trained: `init` takes any weights of the model's structure."""
    params, apply, _ = by_hand()
    meta = mj.maml(apply, 0.1).init(params)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (meta, params)), strict=True))
