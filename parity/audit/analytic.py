"""The reference's derivatives by the other framework, and what rounding costs them.

`derivatives` differentiates an operation's reference, written in primitives, in PyTorch eagerly or
in JAX without XLA's optimisations; so an operation of one framework is held to the primitives of
the other.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from parity.audit.head import of_primitives
from parity.audit.namespaces import dot
from parity.audit.operations import Operation
from parity.audit.points import Arrays
from parity.audit.primitives import jax_primitives, torch_primitives
from parity.relative_error import norm, relative_error

UNIT32 = float(np.finfo(np.float32).eps)
UNIT64 = float(np.finfo(np.float64).eps)


class Derivatives(NamedTuple):
    """Of one task: the gradient, H v, and T(v, t)."""

    first: Arrays
    second: Arrays
    third: Arrays


def derivatives(
    operation: Operation, framework: str, p: Arrays, v: Arrays, t: Arrays
) -> Derivatives:
    """Those of the reference in a framework, in float64."""
    return _compiled(operation, framework)(p, v, t)


class Noise(NamedTuple):
    """By order: the relative error of the reference's derivatives in float32."""

    first: float
    second: float
    third: float

    def bound(self, order: int, precision: str) -> float:
        """What rounding explains.

        The error in float32, in units of its rounding, tells how much this problem amplifies
        rounding. The operation under test may round in another order, by another formula: it is
        granted `ALLOWANCE` times that.
        """
        amplification = max(self[order - 1] / UNIT32, 1.0)
        unit = UNIT32 if precision == "float32" else UNIT64
        return ALLOWANCE[precision] * amplification * unit


ALLOWANCE = {"float64": 1e4, "float32": 30.0}
"""`python -m parity.audit.trials` shows what of it right operations use. An error in a formula does
not shrink with the rounding; float64 leaves room for a larger margin than float32 does."""


def noise(operation: Operation, places: Sequence[tuple[Arrays, Arrays, Arrays]]) -> Noise:
    """The largest of several places `(p, v, t)`."""
    found = []
    for p, v, t in places:
        exact = derivatives(operation, "torch", p, v, t)
        rounded = torch_derivatives(operation, p, v, t, "float32")
        found.append([error_of(a, b) for a, b in zip(rounded, exact, strict=True)])
    return Noise(*map(float, np.max(np.nan_to_num(found, nan=np.inf), 0)))


def error_of(found: Arrays, expected: Arrays) -> float:
    """The relative error, as `parity.relative_error` defines it."""
    names = [str(k) for k in range(len(expected))]
    wide = [np.asarray(a, np.float64) for a in found]
    return relative_error(
        dict(zip(names, wide, strict=True)), dict(zip(names, expected, strict=True))
    )[1]


def length(arrays: Arrays) -> float:
    """The norm of all arrays as one vector."""
    return norm({str(k): a for k, a in enumerate(arrays)})


def torch_derivatives(
    operation: Operation, p: Arrays, v: Arrays, t: Arrays, precision: str = "float64"
) -> Derivatives:
    """Of the reference in PyTorch, eagerly, on the CPU."""
    import torch

    dtype = getattr(torch, precision)
    f = of_primitives(torch_primitives(), operation.reference)
    with torch.device("cpu"):
        tensors = [tuple(torch.tensor(a, dtype=dtype) for a in group) for group in (p, v, t)]
        found = _three(f, torch.func.grad, len(p), _once(operation))(*tensors)
    return Derivatives(*(tuple(a.double().numpy() for a in group) for group in found))


@lru_cache(maxsize=4)
def _compiled(
    operation: Operation, framework: str
) -> Callable[[Arrays, Arrays, Arrays], Derivatives]:
    if framework == "torch":
        return lambda p, v, t: torch_derivatives(operation, p, v, t)
    import jax

    from parity.compiling import compile_quickly

    program: list[Any] = []

    def run(p: Arrays, v: Arrays, t: Arrays) -> Derivatives:
        cpu = jax.devices("cpu")[0]
        with jax.enable_x64(True), jax.default_device(cpu):
            if not program:
                f = of_primitives(jax_primitives(), operation.reference)
                lowered = jax.jit(_forward(f, len(p), _once(operation))).lower(p, v, t)
                program.append(compile_quickly(lowered))
            found = program[0](p, v, t)
        return Derivatives(*(tuple(np.asarray(a) for a in group) for group in found))

    return run


def _once(operation: Operation) -> bool:
    """Whether it is differentiated once: a meta-gradient has its second derivatives inside."""
    return operation.kind == "programs"


def _forward(f: Callable[..., Any], inputs: int, once: bool) -> Callable[..., Any]:
    """The three by forward mode over reverse mode, whose one program is half as large."""
    import jax

    every = tuple(range(inputs))

    def three(p: Any, v: Any, t: Any) -> Any:
        if once:
            return (jax.grad(f, every)(*p),) * 3

        def along_v(*p: Any) -> Any:
            return jax.jvp(jax.grad(f, every), p, v)

        (first, second), (_, third) = jax.jvp(along_v, p, t)
        return first, second, third

    return three


def _three(f: Callable[..., Any], grad: Any, inputs: int, once: bool) -> Callable[..., Any]:
    """The gradient, its derivative along v, and that one's along t, in one pass."""
    every = tuple(range(inputs))
    first = grad(f, every)

    def three(p: Any, v: Any, t: Any) -> Any:
        if once:
            return (first(*p),) * 3

        def along_v(*p: Any) -> Any:
            found = first(*p)
            return dot(found, v), found

        def along_both(*p: Any) -> Any:
            second, found = grad(along_v, every, has_aux=True)(*p)
            return dot(second, t), (found, second)

        third, (found, second) = grad(along_both, every, has_aux=True)(*p)
        return found, second, third

    return three
