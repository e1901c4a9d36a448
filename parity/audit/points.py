"""Where derivatives are taken: inputs, directions, and the tasks of a vmap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.audit.operations import Operation
from parity.audit.transformations import TASKS, Batch

Arrays = tuple[np.ndarray, ...]


def directions(arguments: Arrays, seed: int, scale: float, count: int) -> list[Arrays]:
    """Directions of at most the inputs' scale, rounded to float32 as the inputs are."""
    rng = np.random.default_rng([seed, 1])
    size = min(scale, 1.0)
    return [
        tuple(
            (size * rng.uniform(-1, 1, a.shape)).astype(np.float32).astype(float) for a in arguments
        )
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Point:
    """Inputs `p` and directions `u`, `v`, `t`, as a transformation takes them."""

    batch: Batch
    p: Arrays
    u: Arrays
    v: Arrays
    t: Arrays

    def tasks(self) -> list[tuple[Arrays, Arrays]]:
        """`(p, v)` of every task."""
        if self.batch == "none":
            return [(self.p, self.v)]
        return [(self.of_task(self.p, k), tuple(a[k] for a in self.v)) for k in range(TASKS)]

    def of_task(self, arrays: Arrays, task: int) -> Arrays:
        """What a task has of arrays like `p`."""
        if self.batch == "none":
            return arrays
        shared = self.batch == "shared"
        return tuple(a if shared and k else a[task] for k, a in enumerate(arrays))

    def gather(self, found: Sequence[Arrays]) -> Arrays:
        """Arrays like `p` of those of the tasks: a shared input has their sum."""
        if self.batch == "none":
            return found[0]
        shared = self.batch == "shared"
        return tuple(
            np.sum(parts, 0) if shared and k else np.stack(parts)
            for k, parts in enumerate(zip(*found, strict=True))
        )


def points(operation: Operation, seed: int, scale: float) -> dict[Batch, Point]:
    """One of each kind."""
    tasks = [operation.arguments(seed + 1000 * k, scale) for k in range(TASKS)]
    u, v, t = directions(tasks[0], seed, scale, 3)
    stacked = tuple(np.stack(parts) for parts in zip(*tasks, strict=True))
    pairs = directions(stacked, seed, scale, 2)
    shared = tuple(a if not k else tasks[0][k] for k, a in enumerate(stacked))
    shared_u = tuple(a if not k else u[k] for k, a in enumerate(pairs[0]))
    return {
        "none": Point("none", tasks[0], u, v, t),
        "each": Point("each", stacked, pairs[0], pairs[1], pairs[1]),
        "shared": Point("shared", shared, shared_u, pairs[1], pairs[1]),
    }


def dot(a: Arrays, b: Arrays) -> float:
    """The sum of products of all elements."""
    return float(sum(np.sum(x * y) for x, y in zip(a, b, strict=True)))
