"""All that this package takes from JAX below its documented interface.

JAX promises no stability for these names. They lie in this one module, so that a new version of JAX
can break only this one; `tests/test_jax_internals.py` lists them. A new operation of JAX, with a
lowering of its own and rules for `vmap` and differentiation, cannot be made without them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray, Tracer, eval_jaxpr
from jax.custom_derivatives import SymbolicZero
from jax.experimental.multihost_utils import (
    broadcast_one_to_all,
    process_allgather,
    sync_global_devices,
)
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

__all__ = [
    "Primitive",
    "SymbolicZero",
    "binary_operation",
    "broadcast_one_to_all",
    "hoist",
    "in_forward_mode",
    "is_traced",
    "matmul_precision",
    "process_allgather",
    "set_batching",
    "set_transposes",
    "settings",
    "sync_global_devices",
    "vary_like",
]


def matmul_precision() -> str | None:
    """The precision of matrix products that is in force; None: the backend's own."""
    return jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]


def settings(*names: str) -> dict[str, str]:
    """What these settings of JAX are, such as `jax_enable_x64`, in words."""
    return {name: str(getattr(jax.config, name)) for name in names}


def hoist(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], list[Any]]:
    """A function of one result without the traced values that it closes over, and these values.

    `function(*arguments)` is `new(values, *arguments)`, and both can be transformed by rules that
    may close over nothing traced, such as those of `custom_vjp`. Where it closes over none, the
    values are none. `jax.closure_convert` leaves integers and keys behind.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    if not any(isinstance(value, Tracer) for value in closed.consts):
        return lambda values, *arguments: function(*arguments), []

    def without_closure(values: list[Any], *arguments: Any) -> Any:
        (result,) = eval_jaxpr(closed.jaxpr, values, *jax.tree.leaves(arguments))
        return result

    return without_closure, closed.consts


def in_forward_mode(tree: Any) -> bool:
    """Whether `jax.jvp`, or `jax.jacfwd` by it, differentiates in one of these values.

    Reverse mode has tracers of another kind.
    """
    return any(isinstance(leaf, ad.JVPTracer) for leaf in jax.tree.leaves(tree))


def is_traced(value: Any) -> bool:
    """Whether JAX traces it, so that its values are not known."""
    return isinstance(value, Tracer)


def vary_like(tree: Any, others: Any) -> Any:
    """`tree`, marked within a checked `shard_map` as varying over the devices that `others` do.

    The derivative of what varies in what does not is summed over the devices: unmarked weights get
    the inner gradients of other devices' tasks. Outside a `shard_map` that checks it does nothing.
    """
    axes = frozenset[Any]().union(*map(_varying, jax.tree.leaves(others)))
    if not axes:
        return tree

    def one(leaf: Any) -> Any:
        missing = tuple(sorted(axes - _varying(leaf), key=str))
        return jax.lax.pcast(jnp.asarray(leaf), missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree)


def _varying(leaf: Any) -> frozenset[Any]:
    return jax.typeof(leaf).manual_axis_type.varying if isinstance(leaf, Tracer) else frozenset()


def binary_operation(
    name: str,
    shape: Callable[..., tuple[int, ...]],
    by_others: Mapping[str, Callable[..., jax.Array]],
    cpu_target: Callable[[Any], str | None],
    cpu_attributes: Callable[..., Mapping[str, Any]],
) -> Primitive:
    """A new operation `bind(a, b, geometry=…)` on two arrays of one type.

    Args:
      name: what it is called in a jaxpr.
      shape: `shape(a, b, geometry)`, of the result; `a` and `b` have a shape and a dtype.
      by_others: `function(a, b, geometry)` for each platform, the operation by others of JAX; a
        platform without one gets that of the CPU.
      cpu_target: `cpu_target(dtype)`, the name under which XLA knows a compiled form for the CPU;
        None: there is none, and that of `by_others` takes its place, as on all other devices.
      cpu_attributes: `cpu_attributes(geometry)`, the numbers that the compiled form takes besides.
    """
    primitive = Primitive(name)
    by_xla = jax.jit(primitive.bind, static_argnames="geometry")

    def at_once(a: Any, b: Any, *, geometry: Any) -> Any:
        with jax.disable_jit(False):  # where `jit` is disabled, it would call itself for ever
            return by_xla(a, b, geometry=geometry)

    primitive.def_impl(at_once)

    def result(a: Any, b: Any, *, geometry: Any) -> ShapedArray:
        form, varying = shape(a, b, geometry), a.manual_axis_type
        if varying.empty:  # outside of a checked `shard_map`
            return ShapedArray(form, a.dtype)
        sharding = NamedSharding(a.sharding.mesh, PartitionSpec(*[None] * len(form)))
        return ShapedArray(form, a.dtype, sharding=sharding, manual_axis_type=varying)

    primitive.def_abstract_eval(result)
    lowered = {
        platform: mlir.lower_fun(function, multiple_results=False)
        for platform, function in by_others.items()
    }

    def compiled(context: Any, a: Any, b: Any, *, geometry: Any) -> Any:
        target = cpu_target(context.avals_in[0].dtype)
        if target is None:
            return lowered["cpu"](context, a, b, geometry=geometry)
        lower = jax.ffi.ffi_lowering(target)
        return lower(context, a, b, **cpu_attributes(geometry))

    mlir.register_lowering(primitive, lowered["cpu"])
    for platform, rule in {**lowered, "cpu": compiled}.items():
        mlir.register_lowering(primitive, rule, platform=platform)
    return primitive


def set_batching(operation: Primitive, rule: Callable[..., tuple[jax.Array, int]]) -> None:
    """How `vmap` batches it: `rule(arrays, axes, geometry=…) -> (result, its batch axis)`."""
    batching.primitive_batchers[operation] = rule


def set_transposes(
    operation: Primitive, in_a: Callable[..., jax.Array], in_b: Callable[..., jax.Array]
) -> None:
    """The operation is linear in each argument; so are its transposes, from which all derivatives
    follow: `in_a(cotangent, b, geometry=…)` and `in_b(a, cotangent, geometry=…)`.
    """
    ad.defbilinear(
        operation,
        lambda cotangent, a, b, *, geometry: in_a(cotangent, b, geometry=geometry),
        lambda cotangent, a, b, *, geometry: in_b(a, cotangent, geometry=geometry),
    )
