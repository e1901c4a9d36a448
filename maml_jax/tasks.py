"""How tasks are batched: the third of the three choices."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec

from maml_jax import plans
from maml_jax.errors import InputError, check_count
from maml_jax.types import Episode, Meta, MetaLearner, Metrics

Step: TypeAlias = Callable[..., tuple[tuple[jax.Array, Metrics], Meta]]


def over_tasks(learner: MetaLearner, chunk: int | None = None, mesh: Mesh | None = None) -> Step:
    r"""The mean over tasks of `learner.value_and_grad`, for a batch of episodes; `jit` it.

    $$\tfrac1T \sum_{t=1}^{T} \nabla_\theta L_t(\theta)$$

    Args:
      learner: what to do with one task.
      chunk: how many tasks are vmapped together; the chunks follow one another in a scan that
        accumulates their gradients, so that memory is a chunk's. It need not divide the number of
        tasks. None: what `tune` measured for this problem on this machine and remembered; else
        few enough for a CPU's cache, and all elsewhere (`plans.rule`). Results are the same
        to rounding, so what must repeat itself to the bit names its chunk.
      mesh: a mesh with an axis `tasks`, over whose devices the tasks are dealt evenly.

    Returns:
      `step(meta, episodes, progress=1.0) -> ((loss, metrics), meta-gradient)`, each a mean over the
      leading axis of `episodes`; `progress`, from 0 to 1 through training, is for algorithms that
      have a schedule (MAML++).
    """
    if chunk is not None:
        check_count("chunk", chunk)
    devices = 1 if mesh is None else mesh.shape.get("tasks", 1)

    def step(meta, episodes, progress=1.0):
        def one_task(meta, episode):
            return learner.value_and_grad(meta, episode, progress)

        size = chunk
        if size is None:
            plan = plans.recall(learner, meta, episodes, devices)
            size = plans.rule(meta, episodes) if plan is None else plan.chunk
        return _mean(one_task, meta, episodes, size)

    return step if mesh is None else _sharded(step, mesh)


def task_mesh(tasks: int) -> Mesh:
    """A mesh with the axis `tasks`, of as many local devices as divide that many tasks evenly.

    On a CPU JAX sees one device unless told otherwise before it looks; one for each core,
    `jax.config.update("jax_num_cpu_devices", cores)`, keeps cores busy that XLA leaves idle on
    networks as small as these.
    """
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if tasks % n == 0)
    return jax.make_mesh((count,), ("tasks",), (AxisType.Auto,), devices=devices[:count])


def _tasks(episodes: Episode) -> int:
    return jax.tree.leaves(episodes)[0].shape[0]


def _mean(one_task: Callable, meta: Meta, episodes: Episode, chunk: int) -> Any:
    tasks = _tasks(episodes)
    chunk = min(chunk, tasks)

    def total(episodes):
        if chunk == 1:  # no vmap at all: a batched convolution is a slower one
            return one_task(meta, jax.tree.map(lambda leaf: leaf[0], episodes))
        results = jax.vmap(one_task, in_axes=(None, 0))(meta, episodes)
        return jax.tree.map(lambda leaf: leaf.sum(0), results)

    def accumulate(sums, episodes):
        return jax.tree.map(jnp.add, sums, total(episodes)), None

    whole = tasks // chunk * chunk
    chunks = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(tasks // chunk, chunk, *leaf.shape[1:]), episodes
    )
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(total, jax.tree.map(lambda leaf: leaf[0], chunks)),
    )
    sums, _ = lax.scan(accumulate, zeros, chunks)
    if whole < tasks:
        sums, _ = accumulate(sums, jax.tree.map(lambda leaf: leaf[whole:], episodes))
    return jax.tree.map(lambda leaf: leaf / tasks, sums)


def _sharded(step: Step, mesh: Mesh) -> Step:
    if "tasks" not in mesh.axis_names:
        raise InputError(f"`mesh` had the axes {mesh.axis_names}; one must be named 'tasks'.")
    devices = mesh.shape["tasks"]
    # Explicit axes would have every caller place the episodes by hand.
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)

    def local(meta, episodes, progress):
        return lax.pmean(step(meta, episodes, progress), "tasks")

    # Unchecked, a device differentiates by itself. With the check on, the *inner* gradient in
    # replicated weights would be summed over the devices, and a loop in anyone's model that
    # starts from zeros would have to say that they vary.
    sharded = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("tasks"), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )

    def checked(meta, episodes, progress=1.0):
        tasks = _tasks(episodes)
        if tasks % devices:
            raise InputError(f"`episodes` held {tasks} tasks; the mesh deals them to {devices}.")
        return sharded(meta, episodes, jnp.asarray(progress))

    return checked
