"""The scalar that is differentiated: Σᵢ cos(i) (yᵢ + yᵢ²/2 + yᵢ³/6) of an operation's output y.

Its derivatives of order one to three are not zero, so that neither a linear operation nor one whose
outputs have a constant sum has a derivative that vanishes; the cosines are weights of both signs.
"""

from collections.abc import Callable

import numpy as np

from parity.audit.primitives import Array, Primitives

TEXT = {
    "torch": "(torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)"
    " * (y + y**2 / 2 + y**3 / 6)).sum()",
    "jax": "(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)"
    " * (y + y**2 / 2 + y**3 / 6)).sum()",
}
TEXT["maml-jax"] = TEXT["jax"]


def of_primitives(xp: Primitives, reference: Callable[..., Array]) -> Callable[..., Array]:
    """The scalar function of the inputs, by an operation's reference."""

    def value(*arguments: Array) -> Array:
        y = reference(xp, *arguments)
        size = int(np.prod(y.shape))
        weights = xp.constant(np.cos(np.arange(size)).reshape(tuple(y.shape)), y)
        return xp.sum(weights * (y + y * y / 2 + y * y * y / 6))

    return value
