"""How tasks are batched: the third of the three choices."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from maml_jax.batching.devices import AXIS, default_mesh, mesh_of
from maml_jax.batching.shards import constrain, is_sharded
from maml_jax.core.checks import check_episodes
from maml_jax.core.entry import CheckedValueAndGrad
from maml_jax.errors import InputError, check_count
from maml_jax.kernels.jax_internals import vary_like
from maml_jax.types import Episode, Meta, MetaLearner, Metrics, RandomKey, Scalar


@runtime_checkable
class Step(Protocol):
    """The mean over a batch of tasks."""

    def __call__(
        self,
        meta: Meta,
        episodes: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        """`((query loss, metrics), meta-gradient)`, each a mean over the tasks.

        Args:
          meta: the meta-parameters.
          episodes: a batch of episodes, `[tasks, examples, …]`.
          progress: from 0 to 1 through training, for algorithms that have a schedule.
          key: what the objectives of `mj.bilevel` draw from; each task gets its own part of it.
        """


def over_tasks(learner: MetaLearner, chunk: int | None = None, mesh: Mesh | None = None) -> Step:
    r"""The mean over tasks of `learner.value_and_grad`, for a batch of episodes; `jit` it.

    $$\tfrac1T \sum_{t=1}^{T} \nabla_\theta L_t(\theta)$$

    Args:
      learner: what to do with one task.
      chunk: how many tasks a device computes together, by `vmap`; the chunks follow one another in
        a scan that accumulates their gradients, so that memory is that of one chunk. It need not
        divide the number of tasks. None: `default_chunk`. `tune` measures which is the fastest.
        Results are the same to rounding.
      mesh: a mesh with an axis `tasks`, over whose devices the tasks are dealt. Where their number
        does not divide, the last devices compute tasks again that are not counted. With an axis
        `fsdp` too, the meta-parameters, their gradient and the fast weights are sharded over it as
        `shard` does. None: all hosts after `initialize_hosts`, all cores of a CPU after
        `use_all_cores`, else one device.

    Returns:
      `step(meta, episodes, progress=1.0) -> ((loss, metrics), meta-gradient)`, each a mean over the
      leading axis of `episodes`.

    Raises:
      InputError: `chunk` below 1, or a mesh without an axis `tasks`; from `step`, episodes of
        different numbers of tasks, of none, one episode that has no axis of tasks, or a number
        that a mesh with an axis `fsdp` does not divide.
    """
    if chunk is not None:
        chunk = check_count("chunk", chunk)
    if mesh is not None and AXIS not in mesh.axis_names:
        raise InputError(f"`mesh` had the axes {mesh.axis_names}; one must be named 'tasks'.")

    def step(
        meta: Meta,
        episodes: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        checked = learner.value_and_grad
        tasks = check_episodes(episodes, of_batches=getattr(checked, "of_batches", True))
        if isinstance(checked, CheckedValueAndGrad):
            checked.check_tasks(meta, episodes)
        keys = None if key is None else jax.random.split(key, tasks)

        def share(meta: Meta, dealt: Any, progress: Any) -> Any:
            size = default_chunk(meta, dealt[0][0]) if chunk is None else chunk
            sums = _sum(_one_task(learner, progress), meta, dealt, size)
            return jax.tree.map(lambda leaf: leaf / tasks, sums)

        devices = mesh or mesh_of(episodes) or default_mesh(tasks)
        if devices is None:
            return share(meta, ((episodes, keys), None), progress)
        return _over_devices(share, devices)(meta, (episodes, keys), jnp.asarray(progress))

    return step


class FastMemory(NamedTuple):
    """What `default_chunk` fills with tasks, and what a task takes of it."""

    bytes: int
    for_weights: int
    """Times the bytes of the weights: their copies, gradients and directions."""
    for_inputs: int
    """Times the bytes of an episode: it alone, or its activations too."""


FAST_MEMORY = {"cpu": FastMemory(2**18, 1, 1), "tpu": FastMemory(2**27, 8, 900)}
"""A CPU core's cache, by timing; the memory on the chip of a TPU v5e, by what XLA compiles for
conv4 (`docs/speed.md` has both)."""


def default_chunk(
    meta: Meta, episodes: Episode, devices: int = 1, platform: str | None = None
) -> int:
    """How many tasks `over_tasks` computes together if it is not told.

    As many as fill the fast memory of a CPU core or of a TPU's chip, at least one. So networks of
    convolutions follow one another, their activations in fast memory, and small networks, whose
    operations would be too short, are computed together. Any other accelerator computes all tasks
    of a device together. It is an estimate, by sizes alone; `tune` measures.

    Args:
      meta: the meta-parameters; of them and of `episodes` only shapes and types are used.
      episodes: a batch of episodes, `[tasks, examples, …]`.
      devices: over how many devices they are dealt.
      platform: their kind, as JAX names it; None: the one that JAX computes on.
    """
    tasks = _count(episodes)
    share = -(-tasks // devices)
    fast = FAST_MEMORY.get(platform or jax.default_backend())
    if fast is None:
        return share
    weights = sum(map(_bytes, jax.tree.leaves(meta)))
    inputs = sum(map(_bytes, jax.tree.leaves(episodes))) // tasks
    one = fast.for_weights * weights + fast.for_inputs * inputs
    return min(share, max(1, fast.bytes // one))


def _bytes(leaf: Any) -> int:
    """The size of an array; keys of random numbers, which are few, count as one byte each."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    size = 1
    for axis in jnp.shape(leaf):
        size *= axis
    return size * getattr(dtype, "itemsize", 1)


def _one_task(learner: MetaLearner, progress: Any) -> Callable[[Meta, Any], Any]:
    """What is summed over `((episodes, keys), which of them count)`; None: no keys; all count."""

    def one_task(meta: Meta, one: Any) -> Any:
        (episode, key), counts = one
        given = {} if key is None else {"key": key}
        (value, metrics), grads = learner.value_and_grad(meta, episode, progress, **given)
        metrics = jax.tree.map(lambda metric: _as_real(metric, jnp.result_type(value)), metrics)
        result = (value, metrics), grads
        if counts is None:
            return result
        return jax.tree.map(lambda leaf: jnp.where(counts, leaf, 0), result)

    return one_task


def _as_real(metric: Any, dtype: Any) -> jax.Array:
    """A truth value or a count in the loss's type: sums of their own type would be no sums."""
    real = jnp.issubdtype(jnp.result_type(metric), jnp.inexact)
    return jnp.asarray(metric) if real else jnp.asarray(metric, dtype)


def _count(episodes: Any) -> int:
    return jax.tree.leaves(episodes)[0].shape[0]


def _sum(one_task: Callable[[Meta, Any], Any], meta: Meta, dealt: Any, chunk: int) -> Any:
    tasks = _count(dealt)
    chunk = min(chunk, tasks)

    def total(dealt: Any) -> Any:
        if chunk == 1:  # without `vmap`, for a batched convolution is a slower one
            return one_task(meta, jax.tree.map(lambda leaf: leaf[0], dealt))
        results = jax.vmap(one_task, in_axes=(None, 0))(meta, dealt)
        return jax.tree.map(lambda leaf: leaf.sum(0), results)

    def accumulate(sums: Any, dealt: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, total(dealt)), None

    whole = tasks // chunk * chunk
    chunks = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(tasks // chunk, chunk, *leaf.shape[1:]), dealt
    )
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(total, jax.tree.map(lambda leaf: leaf[0], chunks)),
    )
    sums, _ = lax.scan(accumulate, vary_like(zeros, dealt), chunks)
    if whole < tasks:
        sums, _ = accumulate(sums, jax.tree.map(lambda leaf: leaf[whole:], dealt))
    return sums


def _over_devices(share: Callable[..., Any], mesh: Mesh | AbstractMesh) -> Callable[..., Any]:
    """The sum over all devices of what `share` computes of each device's tasks."""
    devices = mesh.shape[AXIS]
    context = jax.sharding.get_abstract_mesh()
    explicit = AxisType.Explicit in context.axis_types
    sharded = is_sharded(mesh) and not explicit
    if not explicit:
        # Explicit axes would have every caller place the episodes by hand.
        automatic = (AxisType.Auto,) * len(mesh.axis_names)
        if isinstance(mesh, AbstractMesh):
            mesh = AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=automatic)
        else:
            mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)

    def total(meta: Meta, episodes: Any, progress: Any) -> Any:
        tasks = _count(episodes)
        even = tasks % devices == 0
        if sharded and not even:
            raise InputError(
                f"`episodes` held {tasks} tasks; over a mesh with an axis 'fsdp' it must be a "
                f"multiple of {devices}."
            )

        def local(meta: Meta, episodes: Any, progress: Any) -> Any:
            if sharded:  # added up by the partitioner, which knows how the gradient is sharded
                value, gradient = share(constrain(meta, mesh), (episodes, None), progress)
                return jax.tree.map(lambda leaf: leaf[None], (value, constrain(gradient, mesh)))
            dealt = (episodes, None) if even else _deal(episodes, -(-tasks // devices))
            return _sum_over_devices(share(meta, dealt, progress))

        # Unchecked, a device differentiates by itself. With the check on, the *inner* gradient in
        # replicated weights would be summed over the devices, and a loop in anyone's model that
        # starts from zeros would have to say that they vary.
        specs = PartitionSpec(), PartitionSpec(AXIS) if even else PartitionSpec(), PartitionSpec()
        arguments: tuple[Any, ...] = (meta, episodes, progress)
        if explicit:  # `jax.set_mesh` is in force: the caller's mesh, with the axes that it has
            arguments = tuple(map(_placed, arguments, specs))
        sums = jax.shard_map(
            local,
            mesh=None if explicit else mesh,
            in_specs=specs,
            out_specs=PartitionSpec(AXIS) if sharded else PartitionSpec(),
            # The partitioner has the other axes.
            axis_names={AXIS} if sharded else set(),
            check_vma=False,
        )(*arguments)
        return jax.tree.map(lambda leaf: leaf.sum(0), sums) if sharded else sums

    return total


def _placed(tree: Any, spec: PartitionSpec) -> Any:
    return jax.tree.map(lambda leaf: jax.reshard(leaf, spec), tree)


def _deal(episodes: Any, each: int) -> tuple[Any, jax.Array]:
    """This device's part of all episodes, and which of them count.

    Beyond the last episode the first ones follow again, which another device counts.
    """
    tasks = _count(episodes)
    numbers = lax.axis_index(AXIS) * each + jnp.arange(each)
    return jax.tree.map(lambda leaf: leaf[numbers % tasks], episodes), numbers < tasks


def _sum_over_devices(tree: Any) -> Any:
    """The sum, all leaves of a type in one vector: on a CPU each sum by itself costs 40 µs."""
    leaves, structure = jax.tree.flatten(tree)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
        vector, unravel = ravel_pytree([leaves[i] for i in chosen])
        for i, leaf in zip(chosen, unravel(lax.psum(vector, AXIS)), strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)
