"""MAML and FOMAML by hand, and their arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import classification, perceptron

import maml_jax as mj
from maml_jax.errors import InputError


def line(params, x):
    return params["slope"] * x + params["offset"]


# By hand. θ = (1, 2), support (x=1, y=0): L_S = (slope + offset)², so ∇L_S = 2·3·(1, 1) = (6, 6).
# α = 0.1: φ = (0.4, 1.4). Query (x=2, y=1): residual 2·0.4 + 1.4 − 1 = 1.2, L_Q = 1.44,
# v = ∇L_Q(φ) = 2·1.2·(2, 1) = (4.8, 2.4). H = 2·[[1, 1], [1, 1]], Hv = (14.4, 14.4).
# MAML: (I − αH)v = (4.8 − 1.44, 2.4 − 1.44) = (3.36, 0.96). FOMAML: v.
THETA = {"slope": np.float64(1.0), "offset": np.float64(2.0)}
EPISODE = mj.Episode(
    mj.Batch(np.array([1.0]), np.array([0.0])), mj.Batch(np.array([2.0]), np.array([1.0]))
)


@pytest.mark.parametrize(
    ("algorithm", "options", "slope", "offset"),
    [
        (mj.maml, {"differentiate": "mixed"}, 3.36, 0.96),
        (mj.maml, {"differentiate": "reverse"}, 3.36, 0.96),
        (mj.fomaml, {}, 4.8, 2.4),
    ],
)
def test_by_hand(algorithm, options, slope, offset, x64):
    learner = algorithm(line, 0.1, 1, loss=mj.losses.mean_squared_error, **options)
    fast = learner.adapt(THETA, EPISODE.support)
    np.testing.assert_allclose([fast["slope"], fast["offset"]], [0.4, 1.4], rtol=1e-14)
    (loss, metrics), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.44, rtol=1e-14)
    np.testing.assert_allclose([grads["slope"], grads["offset"]], [slope, offset], rtol=1e-14)
    assert set(metrics) == {"loss"}  # no accuracy in regression


def test_fewer_weights_adapt_but_all_get_a_gradient(x64):
    params, apply = perceptron()
    learner = mj.maml(apply, 0.3, 2, adapts=lambda path: path.startswith("head"))
    episode = classification()
    fast = learner.adapt(params, episode.support)
    np.testing.assert_array_equal(fast["body"]["kernel"], params["body"]["kernel"])
    assert not np.array_equal(fast["head"]["kernel"], params["head"]["kernel"])
    grads = learner.value_and_grad(params, episode)[1]
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_inner_adam_without_eps_root_is_the_known_nan(x64):
    """Why the docstring asks for `eps_root`: where a gradient is 0 the meta-gradient is NaN."""
    params, apply = perceptron()
    episode = classification()
    dead = jax.tree.map(lambda leaf: leaf.at[..., 0].set(0), episode)  # an input that is always 0
    for eps_root, finite in ((0.0, False), (1e-8, True)):
        learner = mj.maml(apply, inner_optimizer=optax.adam(0.1, eps_root=eps_root))
        grads = learner.value_and_grad(params, dead._replace(query=episode.query))[1]
        assert bool(jnp.isfinite(grads["body"]["kernel"]).all()) is finite


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`inner_lr` was None and `inner_optimizer` None; pass exactly one"),
        ({"inner_lr": 0.1, "inner_optimizer": optax.sgd(0.1)}, "pass exactly one"),
        ({"inner_lr": 0.1, "inner_steps": -1}, "`inner_steps` was -1; .* at least 0"),
        ({"inner_lr": 0.1, "inner_steps": 1.5}, "`inner_steps` was 1.5"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        mj.maml(line, **arguments)


def test_a_predicate_that_matches_nothing_is_refused():
    params, apply = perceptron()
    with pytest.raises(InputError, match="`adapts` matched no weight; the paths are body/bias"):
        mj.maml(apply, 0.1, adapts=lambda path: "hed" in path).init(params)


def test_negative_steps_of_adaptation_are_refused():
    params, apply = perceptron()
    with pytest.raises(InputError, match="`steps` was -1"):
        mj.maml(apply, 0.1).adapt(params, classification().support, steps=-1)


def test_float_labels_point_to_regression():
    params, apply = perceptron()
    episode = classification()
    wrong = episode._replace(query=episode.query._replace(y=episode.query.y * 1.0))
    with pytest.raises(InputError, match=r"`labels` were float32.*mean_squared_error"):
        mj.maml(apply, 0.1).value_and_grad(params, wrong)


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True])
def test_bad_chunks_are_refused(chunk):
    with pytest.raises(InputError, match="`chunk` was"):
        mj.over_tasks(mj.maml(line, 0.1), chunk)


def test_a_mesh_without_tasks_and_one_that_does_not_divide_are_refused():
    params, apply = perceptron()
    learner = mj.maml(apply, 0.1)
    with pytest.raises(InputError, match="`mesh` had the axes"):
        mj.over_tasks(learner, mesh=jax.make_mesh((2,), ("x",)))
    step = mj.over_tasks(learner, mesh=jax.make_mesh((2,), ("tasks",)))
    with pytest.raises(InputError, match="`episodes` held 3 tasks"):
        step(params, classification(tasks=3))
