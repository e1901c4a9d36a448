"""A scan whose derivative stores as much as it may, and computes the rest again."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from maml_jax.types import Scalar

Policy: TypeAlias = Callable[..., Any]
"""One of `jax.checkpoint_policies`."""
Body: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


def scan_steps(
    body: Body,
    carry: Any,
    steps: int,
    *,
    stored: int | None = None,
    last: int | None = None,
    policy: Policy | None = None,
) -> tuple[Any, Any]:
    r"""`lax.scan(body, carry, arange(steps))`, by nested scans that `jax.checkpoint` separates.

    The scan of T steps at depth d has blocks of b steps, each of which is one at depth d − 1. It
    stores T/b copies of the carry and computes each block once more, so that d depths store about
    $d\,T^{1/d}$ copies and compute the steps d − 1 times more.

    Args:
      body: `body(carry, step) -> (carry, outputs)`.
      carry: at first.
      steps: how many.
      stored: so many copies of the carry may be stored at once, as far as it is possible; None: one
        a step.
      last: so many steps, the last ones, are differentiated; those before are constants. None: all.
      policy: what is stored within a step; None: what JAX stores.
    """
    if policy is not None:
        body = jax.checkpoint(body, policy=policy, prevent_cse=False)
    constant = 0 if last is None else max(0, steps - last)
    parts = []
    if constant:
        # In each step, for what the body closes over is differentiated too.
        carry, outputs = _scan(
            lambda carry, step: lax.stop_gradient(body(carry, step)),
            lax.stop_gradient(carry),
            0,
            (constant,),
        )
        parts.append(outputs)
    start = constant
    # What does not fill a block of the first scan is a scan of its own.
    while start < steps or not parts:
        lengths = block_lengths(steps - start, stored)
        carry, outputs = _scan(body, carry, start, lengths)
        parts.append(outputs)
        start += math.prod(lengths)
    if len(parts) == 1:
        return carry, parts[0]
    return carry, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def block_lengths(steps: int, stored: int | None) -> tuple[int, ...]:
    """The lengths of nested scans, from the outermost, whose product is `steps` or a little less.

    Of the shallowest scans that store at most `stored` copies; of these, those which leave out
    the fewest steps. No scan stores less than the deepest, of blocks of two.
    """
    if stored is None or steps <= stored:
        return (steps,)
    depth = 2
    while True:
        options = [
            (length, *[side] * (depth - 1))
            for side in range(2, int(steps ** (1 / (depth - 1))) + 1)
            if (length := steps // side ** (depth - 1)) and length + side * (depth - 1) <= stored
        ]
        if options:
            return max(options, key=lambda lengths: (math.prod(lengths), -sum(lengths)))
        if 2**depth > steps:
            return (max(1, steps // 2 ** (depth - 2)), *[2] * (depth - 2))
        depth += 1


def _scan(body: Body, carry: Any, start: Any, lengths: tuple[int, ...]) -> tuple[Any, Any]:
    length, *inner = lengths
    if not length:  # which `lax.scan` refuses where `jit` is disabled
        _, outputs = jax.eval_shape(body, carry, start)
        return carry, jax.tree.map(lambda o: jnp.zeros((0, *o.shape), o.dtype), outputs)
    if not inner:
        return lax.scan(body, carry, _numbers(start, length, 1))
    size = math.prod(inner)

    @partial(jax.checkpoint, prevent_cse=False)
    def block(carry: Any, first: Any) -> tuple[Any, Any]:
        return _scan(body, carry, first, tuple(inner))

    carry, outputs = lax.scan(block, carry, _numbers(start, length, size))
    return carry, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)


def _numbers(start: Any, length: int, size: int) -> Array:
    return start + size * jnp.arange(length, dtype=jnp.int32)


@jax.custom_vjp
def probe(tree: PyTree[Array], at: Scalar) -> PyTree[Array]:
    """`tree`; the derivative in `at` is the norm of that in `tree`."""
    del at
    return tree


def _probe_forward(tree: PyTree[Array], at: Scalar) -> tuple[PyTree[Array], Scalar]:
    return tree, at


def _probe_backward(at: Scalar, cotangent: PyTree[Array]) -> tuple[PyTree[Array], Scalar]:
    return cotangent, optax.tree.norm(cotangent).astype(at.dtype)


probe.defvjp(_probe_forward, _probe_backward)
