"""What an audited operation is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.audit.primitives import Array

STACKS = ("torch", "jax", "maml-jax")


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation: its inputs, how each framework computes it, and the same from primitives.

    Inputs and calls are expressions, because a reproducer prints what was run. The calls know the
    inputs by their names, and `torch`, `F`, `np`; or `jax`, `jnp`, `lax`, `linen`, `optax`, `np`.
    """

    name: str
    kind: str
    inputs: Mapping[str, str]
    """NumPy expressions of `rng`, by the names of the inputs; away from kinks."""
    reference: Callable[..., Array]
    """`reference(xp, *inputs)`, from primitives."""
    torch: str | None = None
    jax: str | None = None
    own: str | None = None
    """The call of this library's own operation; it knows `mj_layers` and `jnp`."""
    scaled: bool = True
    """Whether the inputs stay in its domain when they are scaled."""

    def arguments(self, seed: int, scale: float = 1.0) -> tuple[np.ndarray, ...]:
        """The inputs, in float64 but rounded to float32, so that both precisions have the same."""
        rng = np.random.default_rng(seed)
        names = {"rng": rng, "np": np}
        return tuple(
            np.asarray(evaluate(text, names) * (scale if self.scaled else 1.0))
            .astype(np.float32)
            .astype(np.float64)
            for text in self.inputs.values()
        )

    def call(self, stack: str) -> str | None:
        """The expression for a stack, if it has the operation."""
        return {"torch": self.torch, "jax": self.jax, "maml-jax": self.own}[stack]

    def function(self, stack: str, names: Mapping[str, Any]) -> Callable[..., Array]:
        """The operation in a stack, as a function of its inputs."""
        return evaluate(f"lambda {', '.join(self.inputs)}: {self.call(stack)}", names)


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """The value of an expression of this package."""
    return eval(text, dict(names))  # noqa: S307 - of no one else's, and printed as it was run
