"""Learners larger than a device: sharded, they compute what one device computes."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from problems import classification, distance, perceptron

import maml_jax as mj
from maml_jax.batching.shards import spec_of
from maml_jax.kernels.convolution import convolve

FOUR_DEVICES = """
import sys
sys.path.insert(0, {tests!r})
import jax, jax.numpy as jnp, optax
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
import maml_jax as mj
from problems import classification, distance, perceptron
from jax.sharding import PartitionSpec as P

params, apply = perceptron()
wide = lambda name, leaf: jnp.tile(leaf, [256 if n == 5 else 1 for n in leaf.shape]) / 16
params = {{p: {{n: wide(n, leaf) for n, leaf in of.items()}} for p, of in params.items()}}
apply = jax.checkpoint(apply, policy=jax.checkpoint_policies.dots_saveable)
learner, optimizer = mj.maml(apply, 0.1, 2), optax.adam(1e-3)

def update(mesh, meta, moments, tasks):
    (loss, _), slope = mj.over_tasks(learner, mesh=mesh)(meta, tasks)
    changes, moments = optimizer.update(slope, moments, meta)
    return loss, slope, optax.apply_updates(meta, changes), moments

tasks = classification(tasks=4)
start = params, optimizer.init(params), tasks
one = jax.jit(update, static_argnums=0).lower(None, *start).compile()
whole = one(*start)
for groups, fsdp in ((2, 2), (1, 4)):
    mesh = mj.sharded_mesh(groups, fsdp)
    meta = mj.shard(params, mesh)
    sharded = meta, mj.shard(optimizer.init(params), mesh), tasks
    compiled = jax.jit(update, static_argnums=0).lower(mesh, *sharded).compile()
    found = compiled(*sharded)
    assert found[1]["body"]["kernel"].sharding.spec == P(None, "fsdp"), found[1]["body"]["kernel"]
    assert distance(found[:2], whole[:2]) < 1e-13
    sizes = [c.memory_analysis() for c in (compiled, one)]
    for kind in ("argument_size_in_bytes", "output_size_in_bytes"):
        a, b = (getattr(size, kind) for size in sizes)
        print(groups, fsdp, kind, a, b, sizes[0].temp_size_in_bytes, sizes[1].temp_size_in_bytes)
        assert a < 1.15 * b / fsdp, (kind, a, b)
"""


@pytest.mark.slow  # a process of its own compiles training three times
def test_shards_on_four_devices():
    """Equal in double precision, remat and all; a device holds 1/n of weights and moments."""
    code = FOUR_DEVICES.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


def test_an_array_is_sharded_along_its_longest_axis_that_divides():
    assert spec_of((3, 8, 4), 4) == P(None, "fsdp")
    assert spec_of((8, 8), 2) == P(None, "fsdp")
    assert spec_of((7, 4, 9), 4) == P(None, "fsdp")
    assert spec_of((7, 9), 4) == spec_of((), 4) == P()


def test_bad_meshes_are_refused():
    with pytest.raises(mj.InputError, match=r"`fsdp` was 3; 1 × 3 of 2 devices"):
        mj.sharded_mesh(1, 3)
    with pytest.raises(mj.InputError, match=r"`mesh` had the axes .*; one must be named 'fsdp'"):
        mj.shard(jnp.ones(4), mj.task_mesh(2))
    params, apply = perceptron()
    mesh = jax.make_mesh((2, 1), ("tasks", "fsdp"), (jax.sharding.AxisType.Auto,) * 2)
    step = mj.over_tasks(mj.maml(apply, 0.1), mesh=mesh)
    jax.eval_shape(step, params, classification(tasks=3))  # no shard, so nothing to refuse


@pytest.mark.slow  # it compiles convolutions and their derivatives twice
def test_the_convolution_in_a_checked_shard_map(x64):
    """A user's own `shard_map` with JAX's default checks: weights the same, images dealt."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 6, 6, 2)))
    w = jnp.asarray(rng.normal(size=(3, 3, 2, 3)))
    mesh = mj.task_mesh(2)

    def loss(w, x):
        slope = jax.grad(lambda w: jnp.sin(convolve(x, w, 1, 1)).sum())(w)  # as in an inner step
        return jnp.square(convolve(x, w - 0.1 * slope, 2, 1)).sum()

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("tasks")), out_specs=P())
    def dealt(w, x):
        own = jax.lax.pcast(w, "tasks", to="varying")  # each device adapts by its own images
        value, slope = jax.value_and_grad(loss)(own, x)
        return jax.tree.map(lambda leaf: jax.lax.psum(leaf, "tasks"), (value, slope))

    each = [jax.value_and_grad(loss)(w, part) for part in (x[:2], x[2:])]
    assert distance(dealt(w, x), jax.tree.map(jnp.add, *each)) < 1e-14

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("tasks")), out_specs=P())
    def together(w, x):
        return jax.grad(lambda w: jax.lax.psum(jnp.sin(convolve(x, w, 1, 1)).sum(), "tasks"))(w)

    whole = jax.grad(lambda w: jnp.sin(convolve(x, w, 1, 1)).sum())(w)
    assert distance(together(w, x), whole) < 1e-14
