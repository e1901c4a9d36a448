"""Attention. Queries, keys and values are `[examples, heads, length, features]`."""

import math

import numpy as np

from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_INPUTS = dict.fromkeys("qkv", "rng.normal(size=(1, 2, 3, 4))")
_MASK = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
_MASK_TEXT = "[[1, 1, 0], [1, 0, 1], [1, 1, 1]]"
_JAX = "jax.nn.dot_product_attention(*(a.swapaxes(1, 2) for a in (q, k, v)){0}).swapaxes(1, 2)"


def attention(
    xp: Primitives, q: Array, k: Array, v: Array, mask: np.ndarray | None = None
) -> Array:
    scores = xp.einsum("nhqd,nhkd->nhqk", q, k) / math.sqrt(q.shape[-1])
    weights = xp.exp(scores)
    if mask is not None:
        weights = weights * xp.constant(mask.astype(float), scores)
    return xp.einsum("nhqk,nhkd->nhqd", weights / xp.sum(weights, 3, True), v)


OPERATIONS = [
    Operation(
        "attention",
        "attention",
        _INPUTS,
        attention,
        "F.scaled_dot_product_attention(q, k, v)",
        _JAX.format(""),
    ),
    Operation(
        "attention_mask",
        "attention",
        _INPUTS,
        lambda xp, q, k, v: attention(xp, q, k, v, _MASK),
        f"F.scaled_dot_product_attention(q, k, v, torch.tensor({_MASK_TEXT}).bool())",
        _JAX.format(f", mask=jnp.array({_MASK_TEXT}, bool)[None, None]"),
    ),
    Operation(
        "attention_causal",
        "attention",
        _INPUTS,
        lambda xp, q, k, v: attention(xp, q, k, v, np.tri(3, dtype=bool)),
        "F.scaled_dot_product_attention(q, k, v, is_causal=True)",
        _JAX.format(", is_causal=True"),
    ),
]
