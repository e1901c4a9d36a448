"""Embeddings, gather and scatter, masks, clipping, norms."""

import numpy as np

from parity.audit.operations.activations import SPACED, between
from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_TABLE = {"w": "rng.normal(size=(5, 3))"}
_X = {"x": "rng.normal(size=(3, 4))"}
_INDICES = "[[0, 2, 2], [3, 1, 0], [1, 1, 3]]"
_ROWS = "[0, 2, 2, 1]"


def embedding(xp: Primitives, w: Array) -> Array:
    return xp.stack([w[k] for k in (4, 1, 1, 0)], 0)


def gather(xp: Primitives, x: Array) -> Array:
    rows = ((0, 2, 2), (3, 1, 0), (1, 1, 3))
    return xp.stack([xp.stack([x[i, k] for k in row], 0) for i, row in enumerate(rows)], 0)


def scatter_add(xp: Primitives, x: Array, y: Array) -> Array:
    """Row k of y is added to row (0, 2, 2, 1)[k] of x."""
    return xp.stack([x[0] + y[0], x[1] + y[3], x[2] + y[1] + y[2]], 0)


def scatter_replace(xp: Primitives, x: Array, y: Array) -> Array:
    return xp.stack([y[0], x[1], y[1]], 0)


def clipped_norm(xp: Primitives, x: Array) -> Array:
    """The product x · min(1, 1/‖x‖)."""
    norm = xp.sqrt(xp.sum(x * x))
    return xp.where(xp.real(norm) > 1, x / norm, x)


def root_of_positive(xp: Primitives, x: Array) -> Array:
    positive = xp.real(x) > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, x * 0 + 1)), x * 0)


def windows(xp: Primitives, x: Array) -> Array:
    """Rows of the pixels of each 2×2 window."""
    parts = [x[:, :, i : i + 2, j : j + 2] for i in range(2) for j in range(2)]
    return xp.stack(parts, 2).reshape(x.shape[0], -1, 4)


OPERATIONS = [
    Operation(
        "embedding",
        "indexing",
        _TABLE,
        embedding,
        "F.embedding(torch.tensor([4, 1, 1, 0]), w)",
        "jnp.take(w, jnp.array([4, 1, 1, 0]), axis=0)",
    ),
    Operation(
        "embedding_bag",
        "indexing",
        _TABLE,
        lambda xp, w: xp.stack([(w[4] + w[1]) / 2, (w[1] + w[0]) / 2], 0),
        "F.embedding_bag(torch.tensor([[4, 1], [1, 0]]), w)",
        "w[jnp.array([[4, 1], [1, 0]])].mean(1)",
    ),
    Operation(
        "gather",
        "indexing",
        _X,
        gather,
        f"torch.gather(x, 1, torch.tensor({_INDICES}))",
        f"jnp.take_along_axis(x, jnp.array({_INDICES}), 1)",
    ),
    Operation(
        "scatter_add",
        "indexing",
        _X | {"y": "rng.normal(size=(4, 4))"},
        scatter_add,
        f"torch.index_add(x, 0, torch.tensor({_ROWS}), y)",
        f"x.at[jnp.array({_ROWS})].add(y)",
    ),
    Operation(
        "scatter_replace",
        "indexing",
        _X | {"y": "rng.normal(size=(2, 4))"},
        scatter_replace,
        "torch.index_copy(x, 0, torch.tensor([0, 2]), y)",
        "x.at[jnp.array([0, 2])].set(y)",
    ),
    Operation(
        "segment_sum",
        "indexing",
        {"y": "rng.normal(size=(4, 3))"},
        lambda xp, y: xp.stack([y[0], y[3], y[1] + y[2]], 0),
        "torch.zeros(3, 3).scatter_add(0, torch.tensor([[0] * 3, [2] * 3, [2] * 3, [1] * 3]), y)",
        f"jax.ops.segment_sum(y, jnp.array({_ROWS}), 3)",
    ),
    Operation(
        "pad_reflect",
        "indexing",
        {"x": "rng.normal(size=(2, 2, 4))"},
        lambda xp, x: xp.stack([x[:, :, k] for k in (2, 1, 0, 1, 2, 3, 2)], 2),
        "F.pad(x, (2, 1), mode='reflect')",
        "jnp.pad(x, ((0, 0), (0, 0), (2, 1)), mode='reflect')",
    ),
    Operation(
        "unfold",
        "indexing",
        {"x": "rng.normal(size=(1, 2, 3, 3))"},
        windows,
        "F.unfold(x, 2).reshape(1, -1, 4)",
        "lax.conv_general_dilated_patches(x, (2, 2), (1, 1), 'VALID').reshape(1, -1, 4)",
    ),
    Operation(
        "dropout_fixed_mask",
        "masks",
        _X,
        lambda xp, x: x * xp.constant(np.arange(12).reshape(3, 4) % 3 != 0, x) * 2,
        "torch.where(torch.arange(12).reshape(3, 4) % 3 != 0, x * 2, 0.0)",
        "jnp.where(jnp.arange(12).reshape(3, 4) % 3 != 0, x * 2, 0)",
    ),
    Operation(
        "where_root",
        "masks",
        {"x": SPACED},
        root_of_positive,
        "torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), 0.0)",
        "jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)",
    ),
    Operation(
        "clip",
        "masks",
        {"x": SPACED},
        lambda xp, x: between(xp, x, -0.5, 0.5),
        "torch.clamp(x, -0.5, 0.5)",
        "jnp.clip(x, -0.5, 0.5)",
    ),
    Operation(
        "clip_by_norm",
        "norms of vectors",
        {"x": "rng.normal(size=(3, 4))"},
        clipped_norm,
        "x * torch.clamp(1 / torch.linalg.vector_norm(x), max=1.0)",
        "optax.clip_by_global_norm(1.0).update(x, optax.EmptyState())[0]",
    ),
    Operation(
        "vector_norm",
        "norms of vectors",
        _X,
        lambda xp, x: xp.sqrt(xp.sum(x * x, 1)),
        "torch.linalg.vector_norm(x, dim=1)",
        "jnp.linalg.norm(x, axis=1)",
    ),
    Operation(
        "pairwise_distances",
        "norms of vectors",
        _X | {"y": "rng.normal(size=(2, 4))"},
        lambda xp, x, y: xp.sqrt(xp.sum((x[:, None] - y[None]) ** 2, 2)),
        "torch.cdist(x, y)",
        "jnp.linalg.norm(x[:, None] - y[None], axis=2)",
    ),
]
