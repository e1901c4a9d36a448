"""What data sets offer to training: a data set has splits, and each split is a source of tasks."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from maml_jax.errors import InputError, check_count
from maml_jax.types import Episode, Loss


class TaskSource(NamedTuple):
    """A distribution of tasks."""

    store: Any
    """A pytree of arrays, passed to compiled programs as an argument, never compiled into them."""
    sample: Callable[[Any, Any], Episode]
    """`sample(store, key) -> one episode`; for use inside `jit` and under `vmap`."""
    load: Callable[[jax.Array], Any] | None = None
    """Where the examples stay on the host: `load(keys)` fetches what the tasks of these keys need,
    a pytree with the axes of `keys` first, and `sample` takes one entry of it in place of a key."""
    description: str = "tasks"
    """One line that `repr` shows."""

    def items(self, keys: jax.Array) -> Any:
        """What `sample` takes for the tasks of these keys: the keys, or what `load` fetches."""
        return keys if self.load is None else self.load(keys)

    def batch(self, key: jax.Array, n: int) -> Episode:
        """`n` episodes on the device, one for each key of `jax.random.split(key, n)`.

        Compiled at the first call for each `n`. Under `jit` it works for sources whose examples
        are on the device (`load` is None).

        Args:
          key: a JAX random key.
          n: how many episodes.

        Returns:
          An `Episode` with a leading axis of `n` tasks on every array.

        Raises:
          InputError: `key` is not a random key, or `n` is below 1.
        """
        items = self.items(jax.random.split(_typed(key), check_count("n", n)))
        return _sample_each(self.sample, self.store, items)

    def __repr__(self) -> str:
        where = "on the device" if self.load is None else "fetched from the host"
        return f"<TaskSource: {self.description}; {where}>"


@partial(jax.jit, static_argnums=0)
def _sample_each(sample: Callable[[Any, Any], Episode], store: Any, items: Any) -> Episode:
    return jax.vmap(sample, (None, 0))(store, items)


def _typed(key: Any) -> jax.Array:
    """The key as `jax.random.key` makes it, from that or from the older `jax.random.PRNGKey`."""
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return jax.random.wrap_key_data(key)
    raise InputError(f"`key` was {key!r}; it must be one random key, such as jax.random.key(0).")


class Size(NamedTuple):
    """How much a split holds."""

    classes: int
    examples: int | None = None
    """In all its classes together; None where examples are drawn without end."""
    fewest: int | None = None
    """Examples in its smallest class."""
    most: int | None = None
    """Examples in its largest class."""


class DataSet(Protocol):
    """A named set of tasks, with its splits."""

    @property
    def name(self) -> str:
        """What it is called in reports and messages."""

    @property
    def kind(self) -> str:
        """What an example is: `images`, `sequences` or `vectors`; or `regression`.

        Tasks of the first three tell classes apart; those of `regression` have real targets.
        """

    @property
    def loss(self) -> Loss:
        """The loss of its tasks."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example.

        Images are (height, width, channels), sequences (times, values), vectors (features,).
        """

    def outputs(self, ways: int) -> int:
        """How many outputs a model of its tasks has."""

    def tasks(
        self,
        split: str,
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        by_class: bool = False,
    ) -> TaskSource:
        """The tasks of a split.

        Args:
          split: `train`, `val`, `test`, or `all` of them together.
          ways: classes in a task.
          shots: support examples per class; in regression, per task.
          queries: query examples per class; in regression, per task.
          by_class: label an example by its class's number in the split, below `labels(split)` and
            the same in every task, instead of by its class's place in the task.
        """

    def labels(self, split: str) -> int | None:
        """How many labels there are with `by_class`; None where tasks have no classes."""

    def sizes(self) -> dict[str, Size]:
        """What each split holds, for people; empty where tasks have no classes."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells this data set from others, as JSON; a run keeps it and checks it on resume."""


def queries_in(data: DataSet, split: str, shots: int, queries: int) -> int:
    """`queries`, or as many as the smallest class of a split has beside its `shots`; at least 1."""
    size = data.sizes().get(split)
    if size is None or size.fewest is None or not size.classes:
        return queries
    return max(1, min(queries, size.fewest - shots))
