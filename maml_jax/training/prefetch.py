"""What a dispatch draws its episodes from: data on the device, or blocks of it, fetched ahead."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maml_jax.data import TaskSource
from maml_jax.training.config import Config
from maml_jax.training.updates import task_keys

BLOCK_BYTES = 16 * 2**20


class Feed:
    """Blocks of updates, each with all that its episodes need on the device.

    A data set on the device is one block without end. Of one that is fetched from the host, a block
    holds the images of a fixed number of updates, about 16 MiB; the next is fetched by a thread
    while the device works on this one. The tasks are the same in both cases.
    """

    def __init__(self, source: TaskSource, config: Config, key: Any, mesh: Mesh):
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self._store = jax.device_put(source.store, self.everywhere)
        self._load = source.load
        self._size = config.updates
        if self._load is not None:
            items = self._load(task_keys(key, 0, config.tasks)[:1])
            first = jax.tree.map(lambda leaf: leaf[0], items)
            one = jax.eval_shape(source.sample, source.store, first)
            images = math.prod(one.support.x.shape) + math.prod(one.query.x.shape)
            self._size = max(1, BLOCK_BYTES // (images * config.tasks))
        self._keys = jax.jit(
            lambda first: jax.vmap(lambda n: task_keys(key, n, config.tasks))(
                first + jnp.arange(self._size)
            )
        )
        self._fetched: dict[int, Future] = {}

    def __enter__(self) -> "Feed":
        self._thread = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def block(self, done: int, until: int) -> tuple[Any, int]:
        """What the next updates need, and how many of them it is for, at most `until - done`."""
        if self._load is None:
            return (self._store, 0, None), until - done
        number = done // self._size
        for wanted in (number, number + 1):
            if wanted not in self._fetched:
                self._fetched[wanted] = self._thread.submit(
                    self._fetch, self._load, wanted * self._size
                )
        self._fetched = {n: future for n, future in self._fetched.items() if n >= number}
        first = number * self._size
        items = self._fetched[number].result()
        return (self._store, first, items), min(until, first + self._size) - done

    def _fetch(self, load: Callable[[jax.Array], Any], first: int) -> Any:
        return jax.device_put(load(self._keys(first)), self.everywhere)
