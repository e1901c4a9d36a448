"""How tasks are batched: the third of the three choices."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, PartitionSpec

from maml_jax.batching import plans
from maml_jax.errors import InputError, check_count
from maml_jax.types import Episode, Meta, MetaLearner, Metrics

Step: TypeAlias = Callable[..., tuple[tuple[jax.Array, Metrics], Meta]]


def over_tasks(learner: MetaLearner, chunk: int | None = None, mesh: Mesh | None = None) -> Step:
    r"""The mean over tasks of `learner.value_and_grad`, for a batch of episodes; `jit` it.

    $$\tfrac1T \sum_{t=1}^{T} \nabla_\theta L_t(\theta)$$

    Args:
      learner: what to do with one task.
      chunk: how many tasks are computed together, by `vmap`; the chunks follow one another in a
        scan that accumulates their gradients, so that memory is a chunk's. It need not divide the
        number of tasks. None: what `tune` measured for this problem on this machine and remembered;
        else few enough for a CPU's cache, and all elsewhere (`plans.rule`). Results are the same to
        rounding, so what must repeat itself to the bit names its chunk.
      mesh: a mesh with an axis `tasks`, over whose devices the tasks are dealt. Where their number
        does not divide, the last devices compute tasks again that are not counted.

    Returns:
      `step(meta, episodes, progress=1.0) -> ((loss, metrics), meta-gradient)`, each a mean over the
      leading axis of `episodes`; `progress`, from 0 to 1 through training, is for algorithms that
      have a schedule (MAML++).
    """
    if chunk is not None:
        check_count("chunk", chunk)
    if mesh is not None and "tasks" not in mesh.axis_names:
        raise InputError(f"`mesh` had the axes {mesh.axis_names}; one must be named 'tasks'.")
    devices = 1 if mesh is None else mesh.shape["tasks"]

    def step(meta, episodes, progress=1.0):
        tasks = _count(episodes)

        def share(meta, dealt, progress):
            size = chunk
            if size is None:
                plan = plans.recall(learner, meta, dealt[0], devices)
                size = plans.rule(meta, dealt[0]) if plan is None else plan.chunk
            sums = _sum(_one_task(learner, progress), meta, dealt, size)
            return jax.tree.map(lambda leaf: leaf / tasks, sums)

        if mesh is None:
            return share(meta, (episodes, None), progress)
        return _over_devices(share, mesh)(meta, episodes, jnp.asarray(progress))

    return step


def task_mesh(tasks: int) -> Mesh:
    """A mesh with the axis `tasks`, of as many local devices as give the largest share of so many
    tasks the fewest.

    On a CPU JAX sees one device unless told otherwise before it looks; one for each core,
    `jax.config.update("jax_num_cpu_devices", cores)`, keeps cores busy that XLA leaves idle.

    Args:
      tasks: how many there are in a batch.
    """
    check_count("tasks", tasks)
    devices = jax.local_devices()
    share = -(-tasks // len(devices))
    count = -(-tasks // share)
    return jax.make_mesh((count,), ("tasks",), (AxisType.Auto,), devices=devices[:count])


def _one_task(learner: MetaLearner, progress: Any) -> Callable:
    """What is summed over `(episodes, which of them count)`, if not all."""

    def one_task(meta, one):
        episode, counts = one
        result = learner.value_and_grad(meta, episode, progress)
        if counts is None:
            return result
        return jax.tree.map(lambda leaf: jnp.where(counts, leaf, 0), result)

    return one_task


def _count(episodes: Any) -> int:
    return jax.tree.leaves(episodes)[0].shape[0]


def _sum(one_task: Callable, meta: Meta, dealt: Any, chunk: int) -> Any:
    tasks = _count(dealt)
    chunk = min(chunk, tasks)

    def total(dealt):
        if chunk == 1:  # no vmap at all: a batched convolution is a slower one
            return one_task(meta, jax.tree.map(lambda leaf: leaf[0], dealt))
        results = jax.vmap(one_task, in_axes=(None, 0))(meta, dealt)
        return jax.tree.map(lambda leaf: leaf.sum(0), results)

    def accumulate(sums, dealt):
        return jax.tree.map(jnp.add, sums, total(dealt)), None

    whole = tasks // chunk * chunk
    chunks = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(tasks // chunk, chunk, *leaf.shape[1:]), dealt
    )
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(total, jax.tree.map(lambda leaf: leaf[0], chunks)),
    )
    sums, _ = lax.scan(accumulate, zeros, chunks)
    if whole < tasks:
        sums, _ = accumulate(sums, jax.tree.map(lambda leaf: leaf[whole:], dealt))
    return sums


def _over_devices(share: Callable, mesh: Mesh) -> Callable:
    """The sum of what `share` makes of each device's tasks, on all devices."""
    devices = mesh.shape["tasks"]
    # Explicit axes would have every caller place the episodes by hand.
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)

    def total(meta, episodes, progress):
        tasks = _count(episodes)
        even = tasks % devices == 0

        def local(meta, episodes, progress):
            dealt = (episodes, None) if even else _deal(episodes, -(-tasks // devices))
            return _sum_over_devices(share(meta, dealt, progress))

        # Unchecked, a device differentiates by itself. With the check on, the *inner* gradient in
        # replicated weights would be summed over the devices, and a loop in anyone's model that
        # starts from zeros would have to say that they vary.
        return jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(
                PartitionSpec(),
                PartitionSpec("tasks") if even else PartitionSpec(),
                PartitionSpec(),
            ),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(meta, episodes, progress)

    return total


def _deal(episodes: Episode, each: int) -> tuple[Episode, jax.Array]:
    """This device's part of all episodes and which of it count: beyond the last follow the first,
    which are another device's.
    """
    tasks = _count(episodes)
    places = lax.axis_index("tasks") * each + jnp.arange(each)
    return jax.tree.map(lambda leaf: leaf[places % tasks], episodes), places < tasks


def _sum_over_devices(tree: Any) -> Any:
    """All leaves of a type in one vector, for on a CPU each sum by itself costs 40 µs."""
    leaves, structure = jax.tree.flatten(tree)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        places = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        vector, unravel = ravel_pytree([leaves[i] for i in places])
        for i, leaf in zip(places, unravel(lax.psum(vector, "tasks")), strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)
