"""Learners larger than a device: what they learn is sharded over the mesh axis `fsdp`.

Tasks are dealt over the axis `tasks` by hand, and within it JAX's own partitioner shards weights,
gradients and fast weights over `fsdp`, gathers them where they are used, and adds them up.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from maml_jax.batching import hosts
from maml_jax.batching.devices import AXIS, all_hosts
from maml_jax.errors import InputError, check_count

FSDP = "fsdp"
"""The name of the mesh axis that arrays are sharded over."""


def sharded_mesh(tasks: int, fsdp: int) -> Mesh:
    """A mesh with the axes `tasks` and `fsdp` for `over_tasks`; neighbours share an array.

    Args:
      tasks: over how many groups of devices the tasks are dealt.
      fsdp: over how many devices of a group the arrays are sharded.

    Raises:
      InputError: `tasks` × `fsdp` is more than the devices; over many hosts, other than these.
    """
    tasks, fsdp = check_count("tasks", tasks), check_count("fsdp", fsdp)
    devices = jax.devices() if all_hosts() else jax.local_devices()
    size = tasks * fsdp
    if size > len(devices) or (all_hosts() and size < len(devices)):
        raise InputError(f"`fsdp` was {fsdp}; {tasks} × {fsdp} of {len(devices)} devices.")
    axes = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((tasks, fsdp), (AXIS, FSDP), axes, devices=devices[:size])


def shard(tree: Any, mesh: Mesh) -> Any:
    """The arrays, sharded over the axis `fsdp` of `mesh`, each along the longest axis it divides.

    An array that none of whose axes it divides is whole on every device.

    Args:
      tree: a pytree of arrays, such as meta-parameters or an optimizer's state.
      mesh: a mesh with the axis `fsdp`.

    Raises:
      InputError: the mesh has no such axis.
    """
    if FSDP not in mesh.axis_names:
        raise InputError(f"`mesh` had the axes {mesh.axis_names}; one must be named 'fsdp'.")

    def one(leaf: Any) -> Any:
        spec = spec_of(np.shape(leaf), mesh.shape[FSDP])
        return hosts.place(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(one, tree)


def is_sharded(mesh: Mesh | AbstractMesh) -> bool:
    """Whether arrays are sharded over this mesh."""
    return mesh.shape.get(FSDP, 1) > 1


def constrain(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """The arrays of a program, sharded as `shard` places them."""

    def one(leaf: jax.Array) -> jax.Array:
        spec = spec_of(leaf.shape, mesh.shape[FSDP])
        return jax.lax.with_sharding_constraint(leaf, spec)

    return jax.tree.map(one, tree)


def spec_of(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """Along the longest axis that `fsdp` divides; of several the last."""
    fitting = [(size, axis) for axis, size in enumerate(shape) if size % fsdp == 0 and size > 0]
    if not fitting:
        return PartitionSpec()
    _, axis = max(fitting)
    return PartitionSpec(*(None,) * axis, FSDP)
