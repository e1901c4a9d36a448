"""The properties that every algorithm must have, for every algorithm."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import Compilations, classification, conv4, distance, perceptron

import maml_jax as mj
from maml_jax.algorithms.anil import is_head
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.updates import State

ALGORITHMS = {
    "maml": mj.maml,
    "maml, reverse": partial(mj.maml, differentiate="reverse"),
    "maml, momentum": lambda apply, lr, steps=1, **options: mj.maml(
        apply, inner_steps=steps, inner_optimizer=optax.sgd(lr, momentum=0.9), **options
    ),
    "maml, Adam": lambda apply, lr, steps=1, **options: mj.maml(
        apply, inner_steps=steps, inner_optimizer=optax.adam(lr, eps_root=1e-6), **options
    ),
    "maml, head only": partial(mj.maml, adapts=is_head),
    "maml, batches": partial(mj.maml, batch_size=2),
    "fomaml": mj.fomaml,
    "reptile": mj.reptile,
    "imaml": lambda apply, lr, steps=1, **options: mj.imaml(
        apply, lr, steps, damping=1.0, **options
    ),
    "imaml, Neumann": lambda apply, lr, steps=1, **options: mj.imaml(
        apply, lr, steps, solver="neumann", **options
    ),
    "imaml, head only": partial(mj.imaml, adapts=is_head),
    "meta_sgd": mj.meta_sgd,
    "meta_sgd, first order": partial(mj.meta_sgd, differentiate="first_order"),
    "anil": mj.anil,
    "anil, learned rates": partial(mj.meta_sgd, adapts=is_head),
    "anil, first order": partial(mj.anil, differentiate="first_order"),
    "boil": mj.boil,
    "proto_maml": mj.proto_maml,
    "proto_maml, first order": partial(mj.proto_maml, differentiate="first_order"),
    "proto_maml, Adam": lambda apply, lr, steps=1, **options: mj.proto_maml(
        apply, inner_steps=steps, inner_optimizer=optax.adam(lr, eps_root=1e-6), **options
    ),
    "maml_plus_plus": mj.maml_plus_plus,
    "maml_plus_plus, rates alone": partial(
        mj.maml_plus_plus, norm_per_step=False, multi_step_until=0.0
    ),
    "maml_plus_plus, norms alone": partial(
        mj.maml_plus_plus, learn_rates=False, multi_step_until=0.0
    ),
    "maml_plus_plus, losses alone": partial(
        mj.maml_plus_plus, learn_rates=False, norm_per_step=False
    ),
    "cavia": partial(mj.cavia, context_size=4),
    "meta_curvature": mj.meta_curvature,
    "protonet": mj.protonet,
    "pretrained": mj.pretrained,
    "pretrained, classes": partial(mj.pretrained, classes=3),
    "scratch": mj.scratch,
}
NOT_A_GRADIENT = ("fomaml", "reptile", "imaml", "first order", "scratch", "pretrained")
TRUE_GRADIENT = [name for name in ALGORITHMS if not any(n in name for n in NOT_A_GRADIENT)]

every = pytest.mark.parametrize("name", ALGORITHMS)


def mean_by_loop(learner, meta, tasks):
    """The meta-gradient's obvious twin: a Python loop over five tasks."""
    one = jax.jit(learner.value_and_grad)
    each = [one(meta, jax.tree.map(lambda leaf, t=t: leaf[t], tasks)) for t in range(5)]
    return jax.tree.map(lambda *leaves: sum(leaves) / 5, *each)


@every
def test_no_inner_rate_leaves_the_prediction_unchanged(name):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.0, 3)
    meta = learner.init(params)
    episode = classification()
    before, after = (learner.adapt(meta, episode.support, steps) for steps in (0, 3))
    x = episode.query.x
    np.testing.assert_array_equal(learner.predict(after, x), learner.predict(before, x))
    if not name.startswith("proto"):  # whose head is the prototypes from the start
        np.testing.assert_array_equal(learner.predict(before, x), apply(params, x))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if "batches" not in name])
def test_adaptation_lowers_the_support_loss(name):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.003, 5)  # small enough for momentum and Adam too
    support = classification().support
    path = learner.trajectory(learner.init(params), support)
    losses = [
        learner.loss(apply(jax.tree.map(lambda leaf, k=k: leaf[k], path), support.x), support.y)
        for k in range(6)
    ]
    assert losses == sorted(losses, reverse=True)


@every
def test_trajectory_is_adaptation_step_by_step(name, x64):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.1, 2)
    meta, support = learner.init(params), classification().support
    path = learner.trajectory(meta, support, 3)
    for k in range(4):
        fast = learner.adapt(meta, support, k)
        assert distance(jax.tree.map(lambda leaf, k=k: leaf[k], path), fast) < 1e-15


@every
def test_chunks_do_not_change_the_meta_gradient(name, x64):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, 2)
    meta, tasks = learner.init(params), classification(tasks=5)
    expected = mean_by_loop(learner, meta, tasks)
    for chunk in (1, 2, 9):  # one by one, with a remainder, all at once
        assert distance(jax.jit(mj.over_tasks(learner, chunk))(meta, tasks), expected) < 1e-13


@every
def test_the_order_of_tasks_does_not_change_the_meta_gradient(name, x64):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, 2)
    meta, tasks = learner.init(params), classification(tasks=5)
    step = jax.jit(mj.over_tasks(learner))
    order = jnp.array([3, 0, 4, 1, 2])
    permuted = step(meta, jax.tree.map(lambda leaf: leaf[order], tasks))
    assert distance(permuted, step(meta, tasks)) < 1e-13


@every
def test_adapted_weights_do_not_depend_on_other_tasks(name, x64):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, 2)
    meta, tasks = learner.init(params), classification(tasks=4)
    together = jax.jit(jax.vmap(learner.adapt, in_axes=(None, 0)))(meta, tasks.support)
    alone = jax.jit(learner.adapt)(meta, jax.tree.map(lambda leaf: leaf[2], tasks.support))
    assert distance(jax.tree.map(lambda leaf: leaf[2], together), alone) < 1e-14


SCHEDULED = [name for name in TRUE_GRADIENT if "plus_plus" in name]


@pytest.mark.parametrize(
    ("name", "steps", "progress"),
    [
        *((name, steps, 1.0) for name in TRUE_GRADIENT for steps in (1, 3)),
        *((name, 3, 0.03) for name in SCHEDULED),  # the losses of all steps count then
    ],
)
def test_finite_differences_agree(name, steps, progress, x64):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, steps)
    meta, episode = learner.init(params), classification()
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), meta)

    value_and_grad = jax.jit(learner.value_and_grad)

    def loss(t):
        moved = jax.tree.map(lambda leaf, d: leaf + t * d, meta, direction)
        return value_and_grad(moved, episode, progress)[0][0]

    h = 2e-5  # the fourth-order formula errs by h⁴, the rounding by 1e-16/h
    slope = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    _, grads = value_and_grad(meta, episode, progress)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), grads, direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-8)


@pytest.mark.parametrize("name", TRUE_GRADIENT)
def test_mixed_equals_reverse(name, x64):
    params, apply = perceptron()
    base, episode = ALGORITHMS[name], classification()
    results = []
    for mode in ("mixed", "reverse"):
        learner = base(apply, 0.3, 3, differentiate=mode)
        results.append(learner.value_and_grad(learner.init(params), episode, 0.03))
    assert distance(*results) < 1e-12


@every
def test_meta_parameters_go_through_a_checkpoint_and_back(name, tmp_path):
    params, apply = perceptron()
    meta = ALGORITHMS[name](apply, 0.3, 2).init(params)
    seven, key = jnp.asarray(7, jnp.int32), jax.random.key_data(jax.random.key(3))
    state = State(meta, optax.adam(1e-3).init(meta), seven, seven, key)
    Checkpoints(tmp_path).save(7, state, {"config": name})
    restored, record = Checkpoints(tmp_path).restore(jax.tree.map(jnp.zeros_like, state))
    assert record == {"config": name}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for got, saved in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(got, saved)


@every
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_keeps_the_precision_of_its_weights(name, precision):
    with jax.enable_x64(precision == "float64"):
        params, apply = perceptron()
        learner = ALGORITHMS[name](apply, 0.3, 2)
        meta = learner.init(params)
        result = jax.jit(learner.value_and_grad)(meta, classification())
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(precision)}


@every
def test_the_second_call_compiles_nothing(name):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, 2)
    step = jax.jit(mj.over_tasks(learner))
    meta = learner.init(params)
    first, second = classification(tasks=4, seed=0), classification(tasks=4, seed=1)
    with Compilations() as warming:
        (_, _), grads = step(meta, first)
    assert warming.count == 1
    moved = jax.block_until_ready(jax.tree.map(jnp.subtract, meta, grads))
    with Compilations() as again:
        jax.block_until_ready(step(moved, second))
    assert again.count == 0


@every
def test_a_mesh_of_two_devices_gives_the_same(name, x64):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, 2)
    meta = learner.init(params)
    mesh = jax.make_mesh((2,), ("tasks",))
    for count, chunk in ((6, None), (5, 2), (1, None)):
        tasks = classification(tasks=count)
        expected = jax.jit(mj.over_tasks(learner))(meta, tasks)
        meshed = jax.jit(mj.over_tasks(learner, chunk, mesh))(meta, tasks)
        assert distance(meshed, expected) < 1e-13


@pytest.mark.parametrize("downsample", ["stride", "maxpool"])
@pytest.mark.parametrize("steps", [1, 3])
def test_mixed_equals_reverse_on_conv4(downsample, steps, x64):
    params, apply = conv4(downsample, filters=4)
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), params)
    episode = classification(size=(28, 28, 1))
    results = [
        jax.jit(mj.maml(apply, 0.4, steps, differentiate=mode).value_and_grad)(params, episode)
        for mode in ("mixed", "reverse")
    ]
    assert distance(*results) < 1e-12
