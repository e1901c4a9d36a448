"""Nested scans: what they compute, and what they store."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import all_but_slow, classification, distance, perceptron

import maml_jax as mj
from maml_jax.core.checkpointing import block_lengths, scan_steps

RATE = 0.3


def cross_entropy(apply):
    def objective(weights, meta, batch, key):
        return mj.losses.softmax_cross_entropy(apply(weights, batch.x), batch.y)

    return objective


def meta_gradient(steps, **options):
    (params, apply), episode = perceptron(), classification()
    objective = cross_entropy(apply)
    learner = mj.bilevel(objective, objective, RATE, steps, **options)
    (value, metrics), grads = jax.jit(learner.value_and_grad)(learner.init(params), episode)
    return value, metrics, grads["params"]


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(2, 200))
def test_blocks_store_what_they_may_and_leave_little_out(steps, stored):
    lengths = block_lengths(steps, stored)
    whole = math.prod(lengths)
    assert 0 < whole <= steps
    assert whole > steps / 2
    if stored >= 2 * math.log2(steps) + 2:
        assert sum(lengths) <= stored


def test_ten_thousand_steps_store_less_than_a_hundred_copies():
    assert block_lengths(10_000, 100) == (25, 20, 20)
    assert block_lengths(10_000, None) == (10_000,)


@pytest.mark.parametrize(("steps", "stored"), [(7, 3), (23, 9), (29, 6), (16, 100)])
def test_outputs_and_derivative_are_those_of_one_scan(steps, stored, x64):
    def run(start, stored):
        def body(carry, step):
            carry = jnp.sin(carry) + step * start / 100
            return carry, carry[0]

        last, outputs = scan_steps(body, start, steps, stored=stored)
        return (last * outputs.sum()).sum(), outputs

    start = jnp.asarray([0.3, 1.2])
    found, expected = (
        jax.value_and_grad(lambda start, s=s: run(start, s), has_aux=True)(start)
        for s in (stored, None)
    )
    assert found[0][1].shape == (steps,)
    assert distance(found, expected) < 1e-13


@pytest.mark.parametrize("differentiate", all_but_slow(["mixed", "reverse"], "mixed"))
def test_the_meta_gradient_is_that_of_storing_every_step(differentiate, x64):
    exact = meta_gradient(37, differentiate=differentiate)
    few = meta_gradient(37, differentiate=differentiate, stored_steps=9)
    assert distance(few, exact) < 1e-10


def test_a_policy_changes_no_result(x64):
    saved = jax.checkpoint_policies.save_only_these_names("inner_gradient")
    assert distance(meta_gradient(5, step_policy=saved), meta_gradient(5)) < 1e-13


def test_the_copies_of_the_weights_may_be_offloaded(x64):
    """What has a step's axis, K = 7, and a weight's shape is in the host's memory alone."""
    offload = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["inner_weights"],
        offload_src="device",
        offload_dst="pinned_host",
    )
    assert distance(meta_gradient(7, step_policy=offload), meta_gradient(7)) < 1e-13
    (params, apply), episode = perceptron(), classification()
    objective = cross_entropy(apply)
    learner = mj.bilevel(objective, objective, RATE, 7, step_policy=offload)
    program = str(jax.make_jaxpr(learner.value_and_grad)(learner.init(params), episode))
    copies = {",".join(map(str, (7, *leaf.shape))) for leaf in jax.tree.leaves(params)}
    assert copies <= set(re.findall(r"f64<host>\[([\d,]*)\]", program))
    assert not copies & set(re.findall(r"f64\[([\d,]*)\]", program))


@pytest.mark.parametrize("last", all_but_slow([0, 2, 5, 9], 2))
def test_truncation_takes_the_weights_before_as_constants(last, x64):
    (params, apply), episode = perceptron(), classification()

    def inner(weights, meta, batch, key):
        size = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))
        return cross_entropy(apply)(weights, meta, batch, key) + meta["hyper"] * size

    learner = mj.bilevel(
        inner, cross_entropy(apply), RATE, 5, hyper=jnp.asarray(0.01), last_steps=last
    )
    meta = learner.init(params)
    (value, _), grads = jax.jit(learner.value_and_grad)(meta, episode)

    @jax.value_and_grad
    def plain(meta):
        fast = meta["params"]
        for k in range(5):
            if k < 5 - last:
                fast, here = jax.lax.stop_gradient((fast, meta))
            else:
                here = meta
            slopes = jax.grad(inner)(fast, here, episode.support, None)
            fast = jax.tree.map(lambda w, g: w - RATE * g, fast, slopes)
        fast = jax.lax.stop_gradient(fast) if not last else fast
        return cross_entropy(apply)(fast, meta, episode.query, None)

    expected, slopes = jax.jit(plain)(meta)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slopes))
    assert bool(size) is bool(last)
    for leaf, slope in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(leaf, slope, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.slow  # a derivative is compiled for each step
@pytest.mark.parametrize("stored", [None, 3])
def test_norms_by_step_are_those_of_the_derivative_in_the_weights_before_each(stored, x64):
    (params, apply), episode = perceptron(), classification()
    objective = cross_entropy(apply)
    learner = mj.bilevel(objective, objective, RATE, 5, gradient_norms=True, stored_steps=stored)
    meta = learner.init(params)
    (_, metrics), _ = jax.jit(learner.value_and_grad)(meta, episode)
    found = metrics["meta_gradient_norm"]
    for k in range(5):
        before = learner.adapt(meta, episode.support, k)
        rest = mj.maml(apply, RATE, 5 - k)
        _, slopes = rest.value_and_grad(before, episode)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slopes)))
        np.testing.assert_allclose(found[k], norm, rtol=1e-10)
    tasks = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), episode)
    (_, means), _ = jax.jit(mj.over_tasks(learner))(meta, tasks)
    np.testing.assert_allclose(means["meta_gradient_norm"], found, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stored_steps": 1}, "`stored_steps` was 1"),
        ({"last_steps": -1}, "`last_steps` was -1"),
        ({"differentiate": "implicit", "stored_steps": 9}, "`stored_steps` was given"),
        ({"outer_steps": "all"}, "`outer_steps` was 'all'"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(mj.InputError, match=words):
        mj.bilevel(lambda *_: 0.0, lambda *_: 0.0, RATE, 3, **options)


@pytest.mark.slow  # XLA optimises three programs
def test_more_steps_take_no_more_memory():
    (params, apply), episode = perceptron(), classification()
    objective = cross_entropy(apply)

    def temporary_bytes(steps, stored):
        learner = mj.bilevel(objective, objective, RATE, steps, stored_steps=stored)
        lowered = jax.jit(learner.value_and_grad).lower(learner.init(params), episode)
        compiled = lowered.compile({"xla_backend_optimization_level": "3"})
        return compiled.memory_analysis().temp_size_in_bytes

    hundred = temporary_bytes(100, None)
    assert temporary_bytes(10_000, 100) < 2 * hundred
    assert temporary_bytes(10_000, None) > 50 * hundred
