"""The devices that tasks are dealt over."""

import logging
import os
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from maml_jax.errors import InputError, check_count

_log = logging.getLogger("maml_jax")

AXIS = "tasks"
"""The name of the mesh axis that tasks are dealt over."""


class _Choice:
    """What this process has chosen to deal tasks over."""

    all_cores = False
    all_hosts = False
    told = False


def use_all_cores() -> int:
    """Make each core of the CPU a device of JAX, and deal tasks over them from now on.

    XLA leaves cores idle on networks as small as those of few-shot learning; a device for each core
    keeps all of them busy. Call it before anything of JAX's has run. After it `over_tasks` without
    a mesh, `mj.train` and `mj.evaluate` deal tasks over all devices. Where JAX computes on an
    accelerator it makes no devices.

    Returns:
      How many devices JAX now has.

    Raises:
      InputError: JAX has already started with another number of CPU devices.
    """
    try:
        jax.config.update("jax_num_cpu_devices", cores())
    except RuntimeError as error:  # JAX has started
        if jax.default_backend() == "cpu" and jax.local_device_count() != cores():
            raise InputError(
                f"`use_all_cores` was called after JAX had started with "
                f"{jax.local_device_count()} CPU devices; call it first in the program."
            ) from error
    _Choice.all_cores = True
    return jax.local_device_count()


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def use_all_hosts() -> None:
    """Deal tasks over the devices of all processes from now on."""
    _Choice.all_hosts = True


def all_hosts() -> bool:
    """Whether tasks are dealt over the devices of all processes."""
    return _Choice.all_hosts


def task_mesh(tasks: int) -> Mesh:
    """A mesh with the axis `tasks` for so many tasks.

    Of the local devices it has as many as make the largest share of a device the smallest: 5 tasks
    over 4 devices would be dealt 2, 2, 1 and 0, so 3 devices do. After `initialize_hosts` it has
    the devices of all hosts, since each must take part.

    Args:
      tasks: how many there are in a batch, at least 1; over many hosts at least as many as devices.
    """
    check_count("tasks", tasks)
    if _Choice.all_hosts and jax.process_count() > 1:
        devices, count = jax.devices(), jax.device_count()
        if tasks < count:
            raise InputError(
                f"`tasks` was {tasks}; over {jax.process_count()} hosts with {count} devices it "
                f"must be at least {count}."
            )
    else:
        devices = jax.local_devices()
        share = -(-tasks // len(devices))
        count = -(-tasks // share)
    return jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=devices[:count])


def default_mesh(tasks: int) -> Mesh | None:
    """The mesh where the caller named none: all hosts or all cores if they were chosen, else none.

    None also within a `shard_map`, whose caller has dealt the tasks already.
    """
    if jax.sharding.get_abstract_mesh().manual_axes:
        return None
    if _Choice.all_hosts and jax.process_count() > 1:
        return task_mesh(tasks)
    if not _Choice.all_cores:
        _tell_of_idle_cores()
        return None
    return task_mesh(tasks) if jax.local_device_count() > 1 else None


def local_mesh() -> Mesh | None:
    """This process's devices, where `default_mesh` would take them; None: one of them."""
    if not _Choice.all_cores:
        _tell_of_idle_cores()
        return None
    count = jax.local_device_count()
    if count == 1:
        return None
    return jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=jax.local_devices())


def mesh_of(episodes: Any) -> Mesh | AbstractMesh | None:
    """The mesh that the caller dealt the episodes over, if it has the axis `tasks`, explicitly."""
    for leaf in jax.tree.leaves(episodes):
        sharding = getattr(jax.typeof(leaf), "sharding", None)
        mesh = getattr(sharding, "mesh", None)
        if mesh is None or AXIS not in mesh.axis_names:
            continue
        if dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[AXIS] == AxisType.Explicit:
            return mesh
    return None


def _tell_of_idle_cores() -> None:
    """Say once that a CPU of several cores is used as one device."""
    if _Choice.told or jax.default_backend() != "cpu":
        return
    if cores() > 1 and jax.local_device_count() == 1:
        _Choice.told = True
        _log.warning(
            "JAX sees this CPU of %d cores as one device; call mj.use_all_cores() first in the "
            "program to train on all of them",
            cores(),
        )
