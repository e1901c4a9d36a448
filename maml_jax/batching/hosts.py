"""Many hosts: a process on each, and one mesh over the devices of all, by JAX's own runtime.

Every process runs the same program on the same arguments. What is the same on all of them is placed
without being sent; what may differ, such as a signal or a bad file, is agreed on.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from maml_jax.batching import devices
from maml_jax.errors import InputError, check_count
from maml_jax.kernels.jax_internals import (
    broadcast_one_to_all,
    process_allgather,
    sync_global_devices,
)

HEARTBEAT_S = 60
"""Seconds without a sign of life after which JAX's runtime ends the processes of all hosts."""


def initialize_hosts(
    coordinator: str | None = None, process: int | None = None, processes: int | None = None
) -> None:
    """Join the processes of all hosts; `over_tasks` and `train` deal tasks over all their devices.

    It is `jax.distributed.initialize`, which finds its arguments by itself under SLURM, Kubernetes,
    MPI and on Cloud TPUs. Call it in every process, before anything of JAX's has run; then run the
    same program in all, with the same arguments. If a process dies the others are ended by JAX, at
    the latest after `HEARTBEAT_S` seconds.

    Args:
      coordinator: address and port of process 0, like `"10.0.0.1:1234"`.
      process: the number of this process, from 0.
      processes: how many there are.

    Raises:
      InputError: an argument out of its range or that JAX cannot find, JAX has already started, or
        the other processes cannot be reached.
    """
    if processes is not None:
        processes = check_count("processes", processes)
    if process is not None:
        process = check_count("process", process, least=0)
        if processes is not None and process >= processes:
            raise InputError(
                f"`process` was {process}; of {processes} the last is {processes - 1}."
            )
    if coordinator is not None:
        _check_coordinator(coordinator, process)
    if not jax.distributed.is_initialized():
        # SIGTERM would be noted by a handler that training cannot put back after its own.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT_S
            )
        except ValueError as error:
            raise InputError(
                "`coordinator`, `process` and `processes` must be given, for JAX finds no cluster "
                f"here: {_first_line(error)}"
            ) from error
        except RuntimeError as error:
            raise InputError(
                f"`initialize_hosts` cannot join the processes: {_first_line(error)}"
            ) from error
    devices.use_all_hosts()


def _check_coordinator(coordinator: str, process: int | None) -> None:
    """An address and a port, and of process 0 one that is free: JAX ends where it is not."""
    host, _, port = str(coordinator).rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(
            f"`coordinator` was {coordinator!r}; it must be an address and a port, like "
            "10.0.0.1:1234."
        )
    if process == 0:
        with socket.socket() as here:
            here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                here.bind(("", int(port)))
            except OSError as error:
                raise InputError(
                    f"`coordinator` was {coordinator!r}; its port cannot be had here "
                    f"({error.strerror}): choose another."
                ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def count() -> int:
    """How many processes train together: 1 before `initialize_hosts`."""
    return jax.process_count() if devices.all_hosts() else 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return count() == 1 or jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Return when all processes have come here."""
    if count() > 1:
        sync_global_devices(what)


def any_host(flag: bool) -> bool:
    """Whether it is true in any process."""
    if count() == 1:
        return flag
    return bool(np.any(process_allgather(np.asarray(flag))))


def from_first(tree: Any) -> Any:
    """The arrays that process 0 has, of the same shapes in all."""
    if count() == 1:
        return tree
    return jax.tree.map(np.asarray, broadcast_one_to_all(tree))


@contextmanager
def agreed() -> Iterator[None]:
    """What fails in one process by an `InputError` fails in all, and all end together.

    Raises:
      InputError: this process's own; or a word that it was another's.
    """
    fault: InputError | None = None
    try:
        yield
    except InputError as error:
        fault = error
    failed = any_host(fault is not None)
    if fault is not None:
        raise fault
    if failed:
        raise InputError("another host refused its input; its message says why.")


def check_shared(folder: Path, name: str) -> None:
    """Whether all processes see the folder that the first sees, not one like it.

    Raises:
      InputError: they do not.
    """
    if count() == 1:
        return
    token = from_first(np.frombuffer(os.urandom(8), np.uint8)).tobytes().hex()
    file = folder / f".seen-by-all-{token}"
    try:
        with agreed():
            if is_first():
                file.touch()
        with agreed():
            if not file.exists():
                raise InputError(
                    f"`{name}` was {folder}; all hosts must see it: name a folder they share."
                )
    finally:
        if is_first():
            file.unlink(missing_ok=True)


def place(tree: Any, sharding: Sharding) -> Any:
    """Arrays that are the same in all processes, on the devices of `sharding`."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def one(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    return jax.tree.map(one, tree)
