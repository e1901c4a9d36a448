"""Errors planted in the derivative of an operation, of which a correct auditor finds every one.

The value and the first derivative stay right. The first derivative is computed at copies of the
inputs, and what is differentiated again are the copies: their own derivative is not 1 but `factor`,
so all of the second derivative, or the part by one input, is multiplied by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.audit.analytic import Arrays, error_of
from parity.audit.backends import Function, Mode, Runner, Wrap
from parity.audit.cells import RIGHT, UNSUPPORTED, WRONG, Truth, judged, transformations_of
from parity.audit.operations import Operation


@dataclass(frozen=True)
class Fault:
    """What the derivative of the copies of all inputs, or of the first one's, is multiplied by.

    Most operations are linear in their last input, a bias, whose second derivative has no term.
    """

    name: str
    factor: float
    first_only: bool = False

    def factors(self, inputs: int) -> list[float]:
        """By input."""
        return [self.factor if not self.first_only or k == 0 else 1.0 for k in range(inputs)]


ROUNDING = 1e-9
"""Relative; the smallest fault is a part in 10⁴."""
FAULTS = [
    Fault("one part in 10⁴", 1.0001),
    Fault("a dropped term", 0.0, first_only=True),
    Fault("a wrong sign", -1.0),
    Fault("a detached branch", 0.0),
]


@dataclass(frozen=True)
class Planted:
    """One fault in one operation of a stack, and under which transformations it was found."""

    operation: str
    stack: str
    fault: str
    wrong: list[str]
    first_order_right: bool
    changes: bool
    """Whether any derivative is another one: none is where the operation is linear."""

    @property
    def caught(self) -> bool:
        """Whether any verdict is "wrong", and none at the first order, which stayed right."""
        return bool(self.wrong) and self.first_order_right


def audit_fault(
    operation: Operation,
    stack: str,
    fault: Fault,
    names: Sequence[str] = ("grad", "grad∘grad", "jvp∘grad"),
    truth: Truth | None = None,
    sound: Runner | None = None,
) -> Planted:
    """Plant a fault and audit the operation eagerly, in float64.

    Not under jvp∘jvp: PyTorch takes the forward-mode rule of a `Function` for a constant, so that
    it would be wrong there without a fault.

    Args:
      operation: which.
      stack: `"torch"` or `"jax"`.
      fault: what is planted in it.
      names: of the transformations, all of which are as right as the operation without it.
      truth: the derivatives it is held to; None: those at the first seed.
      sound: what runs it without the fault, eagerly or compiled; None: made here.
    """
    factors = fault.factors(len(operation.inputs))
    wrap: Wrap = in_torch(factors) if stack == "torch" else in_jax(factors)
    mode = Mode("func" if stack == "torch" else "eager", "float64")
    runner = Runner.of(operation, stack, mode, wrap=wrap)
    truth = truth or Truth(operation, stack, 0, 1.0)
    chosen = [t for t in transformations_of(operation, stack) if t.name in names]
    found = {
        t.name: judged(runner, t, truth, operation.name, operation.kind).verdict for t in chosen
    }
    sound = sound or Runner.of(operation, stack, mode)
    changes = any(
        found[t.name] == UNSUPPORTED  # so that what was not judged counts as missed
        or _differ(*(r.run(t, truth.points[t.batch]) for r in (runner, sound)))
        for t in chosen
    )
    return Planted(
        operation.name,
        stack,
        fault.name,
        [name for name, verdict in found.items() if verdict == WRONG],
        found["grad"] == RIGHT,
        changes,
    )


def _differ(a: Arrays | float, b: Arrays | float) -> bool:
    """By more than rounding."""
    a, b = ((np.asarray(x),) if isinstance(x, float) else x for x in (a, b))
    return error_of(a, b) > ROUNDING


def in_jax(factors: Sequence[float]) -> Wrap:
    """By `jax.custom_jvp`."""
    import jax

    def copy(x: Any, factor: float) -> Any:
        return jax.lax.stop_gradient(x) * (1 - factor) + x * factor

    def wrap(f: Function) -> Function:
        planted = jax.custom_jvp(f)

        @planted.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            copies = tuple(copy(x, k) for x, k in zip(primals, factors, strict=True))
            return f(*primals), jax.jvp(f, copies, tangents)[1]

        return planted

    return wrap


def in_torch(factors: Sequence[float]) -> Wrap:
    """By `torch.autograd.Function`, in both modes."""
    import torch
    from torch.func import jvp, vjp

    class Copy(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Any, factor: float) -> Any:
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.factor = inputs[1]

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            return cotangent * ctx.factor, None

        @staticmethod
        def jvp(ctx: Any, tangent: Any, _: Any) -> Any:
            return tangent * ctx.factor

    def copies(saved: Any) -> Any:
        return tuple(Copy.apply(x, k) for x, k in zip(saved, factors, strict=True))

    def wrap(f: Function) -> Function:
        class Planted(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(*arguments: Any) -> Any:
                return f(*arguments)

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                ctx.save_for_backward(*inputs)
                ctx.save_for_forward(*inputs)

            @staticmethod
            def backward(ctx: Any, cotangent: Any) -> Any:
                return vjp(f, *copies(ctx.saved_tensors))[1](cotangent)

            @staticmethod
            def jvp(ctx: Any, *tangents: Any) -> Any:
                return jvp(f, copies(ctx.saved_tensors), tangents)[1]

        apply: Callable[..., Any] = Planted.apply
        return apply

    return wrap
