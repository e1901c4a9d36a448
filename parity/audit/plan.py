"""Which modes a stack is audited in, each with its transformations."""

from collections.abc import Sequence

from parity.audit.backends import INNER, Mode
from parity.audit.operations import OPERATIONS, Operation

Modes = list[tuple[Mode, Sequence[str]]]
ALL: Sequence[str] = ()
AOT, INDUCTOR = "compile aot_eager", "compile inductor"
SAMPLE = ("dense", "layer_norm")
"""What is compiled by default."""
COMPILED = ("dense", "conv2d", "batch_norm", "layer_norm", "cross_entropy", "max_pool")
"""What is compiled by Inductor too, which takes half a minute for each; the rest by `aot_eager`."""


def plan(operation: Operation, stack: str, everything: bool) -> Modes:
    """The modes for an operation of a stack."""
    wide, single = "float64", "float32"
    if stack == "torch":
        modes: Modes = [
            (Mode("func", wide), ALL),
            (Mode("autograd", wide), ("grad∘grad", "grad∘grad∘grad")),
        ]
        if operation.name in SAMPLE and not everything:
            modes += [(mode, ("grad∘grad",)) for mode in (Mode(AOT, wide), Mode(INNER, wide))]
        if everything:
            modes += [
                (Mode("func", single), ALL),
                (Mode(AOT, wide), ("grad∘grad", "grad∘vmap∘grad")),
            ]
            if operation.name in COMPILED:
                modes += [(m, ("grad∘grad",)) for m in (Mode(INDUCTOR, wide), Mode(INNER, wide))]
        return modes
    few = ("grad∘vmap∘grad", "jvp∘jvp", "grad∘vmap∘mixed")
    if not everything:
        return [(Mode("jit", wide), few)]
    return [
        (Mode("jit", wide), ALL),
        (Mode("jit", single), ("grad∘grad", "grad∘vmap∘grad", "grad∘vmap∘mixed")),
        (Mode("eager", wide), few),
    ]


def operations(stack: str, only: Sequence[str] = ()) -> list[Operation]:
    """Those that a stack has, if their name or kind is among `only`."""
    return [
        o
        for o in OPERATIONS
        if o.call(stack) is not None and (not only or o.name in only or o.kind in only)
    ]
