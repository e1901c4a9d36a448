"""What a data set offers to training: a source of episodes that lives on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from maml_jax.types import Episode, Loss


class TaskSource(NamedTuple):
    """A distribution of tasks.

    `store` is a pytree of arrays that is passed to, not compiled into, whatever draws episodes.
    """

    store: Any
    sample: Callable[[Any, Any], Episode]
    """`sample(store, key) -> one episode`; for use inside `jit` and under `vmap`."""
    load: Callable[[jax.Array], Any] | None = None
    """Where the images stay on the host: `load(keys)` fetches what these tasks need, a pytree with
    the axes of `keys` first, and `sample` takes that in place of the key."""

    def items(self, keys: jax.Array) -> Any:
        """What `sample` takes, for tasks of these keys: the keys, or what is fetched for them."""
        return keys if self.load is None else self.load(keys)


class DataSet(Protocol):
    """A named set of tasks, with its splits."""

    @property
    def loss(self) -> Loss:
        """What the tasks are judged by."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example."""

    def outputs(self, ways: int) -> int:
        """How many outputs a model for this set has."""

    def tasks(
        self, split: str, *, ways: int, shots: int, queries: int, by_class: bool = False
    ) -> TaskSource:
        """The tasks of `split` (`train`, `val` or `test`), `queries` counted per class.

        `by_class`: an example's label is its class's number within the split, below
        `labels(split)`, the same in every task.
        """

    def labels(self, split: str) -> int | None:
        """How many such labels there are; None where tasks have no classes."""

    def facts(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
