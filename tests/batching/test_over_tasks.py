"""The mean over tasks: its arguments, its mesh, and what it sums."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import classification, distance, perceptron

import maml_jax as mj
from maml_jax.batching import default_chunk
from maml_jax.errors import InputError

module = sys.modules["maml_jax.batching.over_tasks"]  # the package has the function of that name
params, apply = perceptron()


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True])
def test_bad_chunks_are_refused(chunk):
    with pytest.raises(InputError, match="`chunk` was"):
        mj.over_tasks(mj.maml(apply, 0.1), chunk)


def test_a_mesh_without_tasks_is_refused():
    with pytest.raises(InputError, match="`mesh` had the axes"):
        mj.over_tasks(mj.maml(apply, 0.1), mesh=jax.make_mesh((2,), ("x",)))


def test_a_mesh_is_of_some_tasks():
    with pytest.raises(InputError, match="`tasks` was 0"):
        mj.task_mesh(0)


def test_a_mesh_has_as_many_devices_as_there_are_shares():
    assert [mj.task_mesh(tasks).shape["tasks"] for tasks in (1, 2, 3, 25)] == [1, 2, 2, 2]


def test_devices_sum_all_leaves_of_a_type_at_once(x64):
    # For each sum takes its time on a CPU. Losses in float32, weights in float32 and float64.
    def value_and_grad(meta, episode, progress=1.0):
        del progress
        loss = (episode * meta["single"]).astype("float32")
        return (loss, {"loss": loss}), {name: episode * leaf for name, leaf in meta.items()}

    learner = mj.maml(apply, 0.1)._replace(value_and_grad=value_and_grad)
    meta = {
        "single": jnp.float32(2),
        "double": jnp.full(3, np.pi, "float64"),
        "other": jnp.ones((2, 2)),
    }
    episodes = jnp.arange(1, 6, dtype="float32")
    step = jax.jit(mj.over_tasks(learner, mesh=mj.task_mesh(5)))
    (loss, metrics), grads = step(meta, episodes)
    assert (loss, metrics["loss"]) == (6, 6)
    assert jax.tree.map(lambda leaf: leaf.dtype, grads) == jax.tree.map(lambda m: m.dtype, meta)
    assert distance(grads, jax.tree.map(lambda leaf: 3 * leaf, meta)) < 1e-15
    assert step.lower(meta, episodes).as_text().count("stablehlo.all_reduce") == 2


def test_the_default_chunk_fills_the_fast_memory(monkeypatch):
    params = {"w": np.zeros(100, np.float32)}
    episodes = mj.Episode(mj.Batch(np.zeros((6, 3), np.float32), np.zeros((6, 5), np.float32)), ())
    monkeypatch.setattr(
        module,
        "FAST_MEMORY",
        {"cpu": module.FastMemory(1000, 1, 1), "tpu": module.FastMemory(2000, 2, 4)},
    )
    assert default_chunk(params, episodes, platform="tpu") == 2  # of 2 * 400 + 4 * 32 bytes each
    assert default_chunk(params, episodes) == 2  # of 400 + 12 + 20 bytes each
    assert default_chunk(params, episodes, devices=6) == 1
    assert default_chunk(params, episodes, devices=4) == 2  # the largest share
    monkeypatch.setattr(module, "FAST_MEMORY", {"cpu": module.FastMemory(100, 1, 1)})
    assert default_chunk(params, episodes) == 1
    monkeypatch.setattr(module, "FAST_MEMORY", {"cpu": module.FastMemory(10**6, 1, 1)})
    assert default_chunk(params, episodes) == 6
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert default_chunk(params, episodes, devices=2) == 3
    assert default_chunk(params, episodes, devices=4) == 2


def scans(chunk):
    """The lengths of the loops over chunks that `over_tasks` makes for six tasks."""
    step = mj.over_tasks(mj.maml(apply, 0.1), chunk)
    program = jax.make_jaxpr(step)(params, classification(tasks=6))
    return [e.params["length"] for e in program.eqns if e.primitive.name == "scan"]


def test_over_tasks_depends_on_its_arguments_alone(monkeypatch):
    assert [scans(chunk) for chunk in (1, 2, 3, 6, 9)] == [[6], [3], [2], [1], [1]]
    monkeypatch.setattr(module, "FAST_MEMORY", {"cpu": module.FastMemory(1, 1, 1)})
    assert scans(None) == [6]


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_metrics_of_any_type_are_means(chunk):
    """Sums of truth values are no truth values, and those of bytes no bytes."""

    def outer(weights, meta, batch, key):
        solved = batch["x"].sum() > 0
        return (weights["w"] * batch["x"]).sum(), {"solved": solved, "n": jnp.uint8(200)}

    learner = mj.bilevel(lambda weights, *_: weights["w"] ** 2, outer, 0.1)
    x = jnp.asarray([[1.0], [1.0], [-1.0], [1.0]])
    step = mj.over_tasks(learner, chunk)
    (_, metrics), _ = step(learner.init({"w": jnp.ones(())}), mj.Episode({"x": x}, {"x": x}))
    assert metrics["solved"] == 0.75
    assert metrics["n"] == 200
