"""Where a dispatch gets its tasks from: data on the device, or blocks of it, fetched ahead."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maml_jax.batching import hosts
from maml_jax.batching.devices import AXIS
from maml_jax.data import TaskSource
from maml_jax.training.updates import Block, task_keys

BLOCK_BYTES = 16 * 2**20
"""Images that are fetched at once, about."""


class EpisodePrefetcher:
    """Gives each dispatch a block of updates: all that their episodes need, on the device.

    A data set on the device is one block without end. Of one that stays on the host, a block holds
    the images of a fixed number of updates, and a thread fetches the next block while the device
    works on this one. The tasks are the same in both cases.

    Args:
      source: where tasks come from.
      tasks_per_update: the tasks of one update.
      key: the key of the state, from which tasks are drawn.
      mesh: the devices that need the blocks.
    """

    def __init__(self, source: TaskSource, tasks_per_update: int, key: Any, mesh: Mesh):
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self._dealt = None
        if tasks_per_update % mesh.shape[AXIS] == 0:
            self._dealt = NamedSharding(mesh, PartitionSpec(None, AXIS))
        self._store = hosts.place(source.store, self.everywhere)
        self._load = source.load
        if self._load is None:
            return
        items = self._load(task_keys(key, 0, tasks_per_update)[:1])
        first = jax.tree.map(lambda leaf: leaf[0], items)
        one = jax.eval_shape(source.sample, source.store, first)
        images = math.prod(one.support.x.shape) + math.prod(one.query.x.shape)
        self._size = max(1, BLOCK_BYTES // (images * tasks_per_update))
        self._keys = jax.jit(
            lambda first: jax.vmap(lambda n: task_keys(key, n, tasks_per_update))(
                first + jnp.arange(self._size)
            )
        )
        self._fetched: dict[int, Future[Any]] = {}

    def __enter__(self) -> "EpisodePrefetcher":
        self._thread = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def next_block(self, done: int, until: int) -> tuple[Block, int]:
        """The block for the updates after `done`, and how many it serves, at most `until - done`.

        Raises:
          Exception: what the thread met when it fetched the block.
        """
        if self._load is None:
            return Block(self._store), until - done
        number = done // self._size
        for wanted in (number, number + 1):
            if wanted not in self._fetched:
                self._fetched[wanted] = self._thread.submit(
                    self._fetch, self._load, wanted * self._size
                )
        self._fetched = {n: future for n, future in self._fetched.items() if n >= number}
        first = number * self._size
        items = self._fetched[number].result()
        return Block(self._store, first, items), min(until, first + self._size) - done

    def _fetch(self, load: Callable[[jax.Array], Any], first: int) -> Any:
        keys = self._keys(first)
        if self._dealt is None:
            return hosts.place(load(keys), self.everywhere)
        # Each device's own tasks alone, so that a host reads no others.
        of_devices = self._dealt.addressable_devices_indices_map(keys.shape)
        parts = [jax.device_put(load(keys[i]), device) for device, i in of_devices.items()]
        return jax.tree.map(partial(_assembled, keys.shape, self._dealt), *parts)


def _assembled(shape: tuple[int, ...], sharding: NamedSharding, *parts: jax.Array) -> jax.Array:
    """The array that begins with the axes `shape`, of the parts on this process's devices."""
    whole = (*shape, *parts[0].shape[len(shape) :])
    return jax.make_array_from_single_device_arrays(whole, sharding, list(parts))
