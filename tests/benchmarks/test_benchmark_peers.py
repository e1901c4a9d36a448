"""All peers compute the same meta-gradient."""

import importlib
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn import functional

import maml_jax as mj
from benchmarks.peers import PEERS, REFERENCE
from benchmarks.workloads import (
    MLP,
    WORKLOADS,
    Conv4,
    Workload,
    flatten,
    from_json,
    make_inputs,
    to_json,
)

IMAGES = Conv4(ways=2, filters=2, image_size=32, channels=3)  # 2×2 positions reach the head
TINY = (
    Workload("maxpool", IMAGES, 2, 1, 2, 1, 0.3),
    Workload("stride", replace(IMAGES, downsample="stride", image_size=16), 2, 2, 1, 1, 0.3),
    Workload("sinusoid", MLP(hidden=(5, 4)), 3, 4, 6, 2, 0.1),
)
by_name = pytest.mark.parametrize("workload", TINY, ids=lambda workload: workload.name)


def outcome(peer, workload):
    """Loss and gradient in float64, where no rounding can hide or feign a difference."""
    prepare = importlib.import_module(PEERS[peer]).prepare
    with jax.enable_x64(True):
        program = prepare(workload, make_inputs(workload, 0, "float64"), "cpu")
        loss, gradient = program.result(program.step())
        assert program.peak_bytes() is None
    return loss, flatten(gradient)


@pytest.fixture(scope="module", autouse=True)
def fast_compilation():
    """These programs run once, so that what the compiler saves is what counts."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="module")
def references():
    return {workload.name: outcome(REFERENCE, workload) for workload in TINY}


@by_name
@pytest.mark.parametrize("peer", [name for name in PEERS if name != REFERENCE])
def test_peer_agrees(peer, workload, references):
    loss, gradient = outcome(peer, workload)
    wanted_loss, wanted = references[workload.name]
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert np.linalg.norm(wanted) > 1e-3
    assert np.linalg.norm(gradient - wanted) < 1e-9 * np.linalg.norm(wanted)


def test_step_may_be_repeated():
    workload = TINY[-1]
    prepare = importlib.import_module(PEERS["torch_loop"]).prepare
    program = prepare(workload, make_inputs(workload, 0), "cpu")
    first, second = (flatten(program.result(program.step())[1]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("workload", WORKLOADS[2:], ids=lambda workload: workload.name)
def test_weights_are_those_of_the_models(workload):
    network = workload.network
    if isinstance(network, Conv4):
        build = partial(mj.models.Conv4, 5, downsample=network.downsample)
    else:
        build = partial(mj.models.MLP, 1, network.hidden, 1)
    model = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    wanted = jax.tree.map(lambda leaf: leaf.shape, mj.from_flax(model)[0])
    inputs = make_inputs(workload, 0)
    assert jax.tree.map(lambda leaf: leaf.shape, inputs.weights) == wanted
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(inputs.weights))


@by_name
def test_inputs_are_a_function_of_the_seed(workload):
    one, same, other = (make_inputs(workload, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.query_x, same.query_x)
    np.testing.assert_array_equal(flatten(one.weights), flatten(same.weights))
    assert (one.query_x != other.query_x).any()
    double = make_inputs(workload, 1, "float64")
    assert double.query_x.dtype == np.float64
    np.testing.assert_array_equal(one.query_x, double.query_x)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_definition_survives_json(workload):
    assert from_json(to_json(workload)) == workload


def test_why_torch_func_takes_both_gradients_inside_vmap():
    """Once PyTorch is right in both orders, this fails, and the note in `torch_func` can go."""
    generator = torch.Generator().manual_seed(0)
    scale, x, direction = (
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in ((3,), (2, 4, 3, 2, 2), (3, 2, 2))
    )

    def loss(scale, x):
        return (functional.batch_norm(x, None, None, scale, training=True) * direction).sin().sum()

    def inner(scale, x):  # a function of an inner gradient, as a meta-loss is one
        return torch.func.grad(loss)(scale, x).square().sum()

    outside = torch.func.grad(lambda x: torch.func.vmap(inner, (None, 0))(scale, x).sum())(x)
    inside = torch.func.vmap(torch.func.grad(inner, argnums=1), (None, 0))(scale, x)
    plain = torch.stack([torch.func.grad(inner, argnums=1)(scale, task) for task in x])
    torch.testing.assert_close(inside, plain)
    assert (outside - plain).norm() > 0.1 * plain.norm()
