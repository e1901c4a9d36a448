"""Whole tasks by a tape: every algorithm, every derivative, bits, and when it is taken."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import ALGORITHMS
from flax import nnx
from problems import by_vmap, classification, conv4, distance, numbers

import maml_jax as mj
from maml_jax.kernels import are_small, native, sum_tasks

pytestmark = pytest.mark.skipif(
    native.compiler() is None, reason="no C++ compiler (c++, g++, clang++)"
)
NOT_ON_A_TAPE = {
    "maml, batches": "picks examples by numbers",
    "maml_plus_plus": "picks each step's weights by its number",
    "maml_plus_plus, rates alone": "the same",
    "maml_plus_plus, losses alone": "the same",
    "pretrained": "joins arrays",
    "pretrained, classes": "joins arrays",
}


def multilayer(features, outputs, batch_norm):
    model = mj.models.MLP(features, (8, 8), outputs, batch_norm, rngs=nnx.Rngs(0))
    params, apply = mj.from_flax(model)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2), params), apply


def problems():
    """Networks with a batch of episodes each, and options."""
    sines = [mj.Batch(numbers(5, 10, 1, seed=i), numbers(5, 10, 1, seed=i + 2)) for i in (0, 1)]
    regression = {"loss": mj.losses.mean_squared_error}
    classes = classification(tasks=5)
    return {
        "normalised": (multilayer(6, 3, True), classes, {}),
        "sinusoid": (multilayer(1, 1, False), mj.Episode(*sines), regression),
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "network"),
    [(name, "normalised") for name in ALGORITHMS]
    + [(name, "sinusoid") for name in ("maml", "maml, reverse", "imaml", "meta_sgd", "cavia")],
)
def test_every_algorithm(name, network):
    (params, apply), episodes, options = problems()[network]
    learner = ALGORITHMS[name](apply, 0.05, 3, **options)
    meta = learner.init(params)

    def one(meta, episode):
        return learner.value_and_grad(meta, episode, 0.5)

    per_step_norms = "norms alone" in name and network == "normalised"
    if name in NOT_ON_A_TAPE or per_step_norms:
        assert not are_small(one, meta, episodes)
        return
    assert are_small(one, meta, episodes)
    tape = jax.jit(partial(sum_tasks, one))(meta, episodes)
    assert distance(tape, jax.jit(partial(by_vmap, one))(meta, episodes)) < 1e-11


def sinusoid(dtype, tasks=25, steps=2):
    params, apply = mj.from_flax(mj.models.MLP(1, (40, 40), 1, rngs=nnx.Rngs(0)))
    sines = [mj.Batch(numbers(tasks, 10, 1, seed=i), numbers(tasks, 10, 1)) for i in (0, 1)]
    learner = mj.maml(apply, 0.01, steps, loss=mj.losses.mean_squared_error)
    meta, episodes = jax.tree.map(
        lambda leaf: leaf.astype(dtype), (learner.init(params), mj.Episode(*sines))
    )
    return learner, meta, episodes


@pytest.mark.usefixtures("x64")
def test_over_tasks_takes_it_and_has_every_derivative(monkeypatch):
    learner, meta, episodes = sinusoid(jnp.float64)
    taken = []
    real = sum_tasks

    def watched(*arguments):
        taken.append(real(*arguments))
        return taken[-1]

    def of_all(meta, episodes):
        (loss, _), gradient = mj.over_tasks(learner, 25)(meta, episodes)
        return loss + sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient))

    def everything(meta, episodes):
        slopes = jax.grad(of_all)(meta, episodes)
        moved = jax.jvp(lambda meta: of_all(meta, episodes), (meta,), (slopes,))
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), meta)
        return slopes, moved, jax.vmap(of_all, (0, None))(twice, episodes)

    monkeypatch.setattr("maml_jax.batching.over_tasks.sum_tasks", watched)
    tape = jax.jit(everything)(meta, episodes)
    assert taken
    assert all(result is not None for result in taken)
    monkeypatch.setattr("maml_jax.batching.over_tasks.sum_tasks", lambda *_: None)
    assert distance(tape, jax.jit(lambda *both: everything(*both))(meta, episodes)) < 1e-12


def test_single_precision():
    learner, meta, episodes = sinusoid(jnp.float32)
    one = partial(learner.value_and_grad, progress=1.0)
    tape = jax.jit(partial(sum_tasks, one))(meta, episodes)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (meta, episodes))
        expected = jax.jit(partial(by_vmap, one))(*double)
        assert distance(tape, expected) < 1e-6


BITS = """
import sys
import jax, numpy as np
sys.path.insert(0, "tests"), sys.path.insert(0, "tests/kernels")
from test_small_tasks import sinusoid, sum_tasks
learner, meta, episodes = sinusoid("float32", tasks=70)
one = lambda meta, episode: learner.value_and_grad(meta, episode, 1.0)
total = jax.jit(lambda *both: sum_tasks(one, *both))
for _ in range(20):
    leaves = jax.tree.leaves(total(meta, episodes))
    print(b"".join(np.asarray(leaf).tobytes() for leaf in leaves).hex())
"""


def test_bits_do_not_depend_on_threads():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not let a process choose its cores")

    def run(one_core):
        pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
        code = (pin if one_core else "") + BITS
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert len(run(False) | run(True)) == 1


def test_a_mesh_of_one_device_for_small_tasks():
    learner, meta, episodes = sinusoid(jnp.float32)
    assert mj.task_mesh(25).size == 2
    assert mj.task_mesh(25, learner, meta, episodes).size == 1
    params, apply = conv4(filters=32)
    images = classification(tasks=4, size=(28, 28, 1))
    assert mj.task_mesh(4, mj.maml(apply, 0.1), params, images).size == 2


def test_none_without_a_compiler_or_on_an_accelerator(monkeypatch):
    w, x = jnp.ones((4, 4)), jnp.ones((3, 4, 4))
    assert are_small(jnp.add, w, x)
    monkeypatch.setattr("maml_jax.kernels.small_tasks.register", lambda *_: None)
    assert not are_small(jnp.add, w, x)
    monkeypatch.undo()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not are_small(jnp.add, w, x)
