"""What objectives of one's own may get wrong: one line each, before or while they are traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import distance, perceptron

import maml_jax as mj

WEIGHTS = {"v": jnp.ones(3), "w": jnp.ones(3)}
EVERYTHING = jax.checkpoint_policies.everything_saveable
EPISODE = mj.Episode(support={"x": jnp.ones((2, 3))}, query={"x": jnp.ones((2, 3))})


def inner(weights, meta, batch, key):
    return jnp.sum((batch["x"] * weights["w"] + weights["v"]) ** 2)


def outer(weights, meta, batch, key):
    return inner(weights, meta, batch, key)


def learn(learner, weights=WEIGHTS, episode=EPISODE):
    return learner.value_and_grad(learner.init(weights), episode)


def to_minimum(objective, start):
    return start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "neumann"}, "`solver` was given and `differentiate` 'mixed'"),
        ({"solver_steps": 3}, "`solver_steps` was given and"),
        ({"damping": 3.0}, "`damping` was given and"),
        (
            {"differentiate": "implicit", "step_policy": EVERYTHING},
            '`step_policy` was given and `differentiate` "implicit"',
        ),
        ({"outer_steps": "each", "inner_steps": 0}, "`inner_steps` was 0 and `outer_steps` 'each'"),
    ],
)
def test_arguments_without_effect_are_refused(options, message):
    with pytest.raises(mj.InputError, match=message):
        mj.bilevel(inner, outer, 0.1, **options)


@pytest.mark.parametrize("name", ["inner_lr", "inner_steps", "inner_optimizer"])
def test_a_minimizer_takes_no_steps(name):
    value = {"inner_lr": 0.1, "inner_steps": 7, "inner_optimizer": optax.sgd(0.1)}[name]
    with pytest.raises(mj.InputError, match=f"`{name}` was given beside a `minimizer`"):
        mj.bilevel(inner, outer, minimizer=to_minimum, differentiate="implicit", **{name: value})


@pytest.mark.parametrize("second", [jnp.ones(()), [1], "accuracy"])
@pytest.mark.parametrize("level", ["inner", "outer"])
def test_what_stands_beside_a_value_is_a_dict(level, second):
    def wrong(weights, meta, batch, key):
        return inner(weights, meta, batch, key), second

    objectives = (wrong, outer) if level == "inner" else (inner, wrong)
    with pytest.raises(mj.InputError, match=f"`{level}` returned .* or `\\(number, "):
        learn(mj.bilevel(*objectives, 0.1))


def test_three_values_are_refused():
    with pytest.raises(mj.InputError, match="`inner` returned"):
        learn(mj.bilevel(lambda *given: (inner(*given), {}, {}), outer, 0.1))


def test_metrics_are_numbers():
    with pytest.raises(mj.InputError, match="`outer` returned the metrics"):
        learn(mj.bilevel(inner, lambda *given: (inner(*given), {"kind": "x"}), 0.1))


def test_what_changes_keeps_its_shape():
    def wrong(weights, meta, batch, key):
        return jnp.sum(weights["w"] ** 2), {"v": jnp.ones(4)}

    with pytest.raises(mj.InputError, match=r"as the new value of 'v'.* same shapes and types"):
        learn(mj.bilevel(wrong, outer, 0.1, adapts=lambda path: path == "w"))


def test_rates_of_other_branches_are_refused():
    with pytest.raises(mj.InputError, match=r"`inner_lr` returned .* for each branch"):
        learn(mj.bilevel(inner, outer, lambda h: {"u": h}, hyper=jnp.asarray(0.1)))


def test_a_query_set_that_is_too_short_is_named():
    episode = mj.Episode({"x": jnp.ones((3, 2, 3))}, {"x": jnp.ones((2, 2, 3))})
    learner = mj.bilevel(inner, outer, 0.1, 3, stream=True, outer_steps="each")
    with pytest.raises(mj.InputError, match=r"`query` was .* there are 3 steps"):
        learn(learner, episode=episode)


def test_a_clipped_optimiser_with_learned_settings_is_safe_at_zero():
    """Where the whole gradient is 0 its norm has no derivative; the meta-gradient is finite."""

    def clipped(hyper):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.scale(-hyper))

    nothing = mj.Episode({"x": jnp.zeros((2, 3))}, {"x": jnp.ones((2, 3))})
    weights = {"v": jnp.zeros(3), "w": jnp.ones(3)}
    learner = mj.bilevel(inner, outer, inner_optimizer=clipped, hyper=jnp.asarray(0.1))
    (value, _), grads = learn(learner, weights, nothing)
    assert value == pytest.approx(6.0)  # the weights stay where they are
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_classify_takes_the_key_of_an_objective_that_draws():
    params, apply = perceptron(features=1, outputs=1)
    one = mj.Batch(jnp.linspace(-1, 1, 5)[:, None], jnp.ones((5, 1)))

    def noisy(weights, meta, batch, key):
        return jnp.mean((apply(weights, batch.x) + jax.random.normal(key) - batch.y) ** 2)

    learner = mj.bilevel(noisy, noisy, 0.01, predict=apply)
    meta, key = learner.init(params), jax.random.key(1)
    outputs = learner.classify(meta, one, one.x, key=key)
    adapted = learner.adapt(meta, one, key=key)
    assert distance(outputs, apply(adapted, one.x)) < 1e-6
    with pytest.raises(mj.InputError, match=r"`support` was .* must be an `mj.Batch"):
        learner.classify(meta, {"x": one.x}, one.x, key=key)
