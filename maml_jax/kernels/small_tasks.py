"""Small tasks, each from beginning to end in one core's cache.

Of a small network each operation is shorter than what it takes to have a second core begin it, so
XLA goes through all tasks on one core, operation by operation. Here a task's function is written
down as a tape (`transcript.py`), and all cores run it, each for a task of its own: one call of
`cpu/tasks.h` is a whole meta-gradient.
"""

import ctypes
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maml_jax.kernels.native import library, register
from maml_jax.kernels.tape import UnsupportedError
from maml_jax.kernels.transcript import transcribe

MEMORY = 2**20
"""Bytes that a task may take, so that it stays in a core's own cache."""

_log = logging.getLogger("maml_jax")

Function = Callable[[Any, Any], Any]
"""`function(shared, one) -> result`, all pytrees of arrays."""


def sum_tasks(function: Function, shared: Any, batched: Any) -> Any | None:
    """The sum of `function(shared, one)` over the leading axis of `batched`, all tasks at once.

    It can be differentiated like the same sum by `vmap`, of which its derivatives are. None where
    `are_small` says no.
    """
    small = _small(function, shared, batched)
    if small is None:
        return None

    def plain(*operands: jax.Array) -> list[jax.Array]:
        axes = [None] * small.shared + [0] * (len(operands) - small.shared)
        return [result.sum(0) for result in jax.vmap(small.one, axes)(*operands)]

    @jax.custom_jvp
    def total(*operands):
        return lax.platform_dependent(*operands, cpu=small.native, default=plain)

    total.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    operands = (*small.constants, *jax.tree.leaves((shared, batched)))
    return jax.tree.unflatten(small.structure, total(*map(jnp.asarray, operands)))


def are_small(function: Function, shared: Any, batched: Any) -> bool:
    """Whether `sum_tasks` can; only shapes and types are looked at.

    It cannot on an accelerator, without a C++ compiler, for tasks that leave a core's cache, and
    for those that do what a tape cannot: convolutions, many values of `tanh` and the like, loops
    and choices that depend on numbers.
    """
    return _small(function, shared, batched) is not None


class _Small(NamedTuple):
    one: Callable[..., list[jax.Array]]
    """The function of a flat list: `constants`, then what all tasks share, then one task's."""
    native: Callable[..., list[jax.Array]]
    """Its sum over the leading axes of the last."""
    constants: list[Any]
    shared: int
    """How many of the operands are the same for all tasks."""
    structure: Any


def _small(function: Function, shared: Any, batched: Any) -> _Small | None:
    if jax.default_backend() != "cpu":
        return None
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batched)
    closed, out = jax.make_jaxpr(function, return_shape=True)(shared, one)
    results, structure = jax.tree.flatten(out)
    dtypes = {result.dtype for result in results}
    dtype = dtypes.pop()
    target = None if dtypes else register("sum_tasks", dtype)
    if target is None:
        return None
    try:
        tape = transcribe(closed.jaxpr, dtype)
    except UnsupportedError as error:
        _log.debug("tasks are left to XLA: no tape does %s", error)
        return None
    program, constants, memory = tape.finish(_codes(dtype.name))
    if memory * dtype.itemsize > MEMORY:
        _log.debug("tasks are left to XLA: one takes %d bytes", memory * dtype.itemsize)
        return None
    same = len(closed.consts) + len(jax.tree.leaves(shared))

    def evaluate(*operands: jax.Array) -> list[jax.Array]:
        count = len(closed.consts)
        return jax.core.eval_jaxpr(closed.jaxpr, operands[:count], *operands[count:])

    def native(*operands: jax.Array) -> list[jax.Array]:
        call = jax.ffi.ffi_call(target, results, vmap_method="sequential")
        sums = call(
            jnp.asarray(constants, dtype),
            *(operand.astype(dtype) for operand in operands),
            tape=program,
            shared=np.int64(1 + same),
            tasks=np.int64(operands[-1].shape[0]),
            memory=np.int64(memory),
        )
        return [*sums]

    return _Small(evaluate, native, closed.consts, same, structure)


@functools.cache
def _codes(numbers: str) -> list[str]:
    """The operations of the library, in the order of their codes."""
    names = library(numbers).tape_operations  # type: ignore[union-attr]
    names.restype = ctypes.c_char_p
    return names().decode().split()
