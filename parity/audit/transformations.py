"""The ways to differentiate, as expressions that read the same in PyTorch and in JAX.

They know `f`, a scalar function of the inputs; `p`, the inputs; the directions `u`, `v` and `t`,
like `p`; `every`, the numbers of the inputs; `grad`, `jvp` and `vmap` of the framework; and `dot`.
With H the second derivative, all of order two are Hv, but for jvp∘jvp, which is uᵀHv.
"""

from dataclasses import dataclass
from typing import Literal

Batch = Literal["none", "each", "shared"]


@dataclass(frozen=True)
class Transformation:
    """A composition of grad, jvp and vmap."""

    name: str
    order: int
    expression: str
    batch: Batch = "none"
    """Under vmap: every input has a value `each` for every task, or the first alone has and the
    others, the weights, are `shared`."""
    scalar: bool = False
    """Whether it ends in a number, its product with `u`."""

    @property
    def reverse_only(self) -> bool:
        """Whether `torch.autograd.grad` alone can do it."""
        return "jvp" not in self.name and "vmap" not in self.name


_HVP = "grad(lambda *p: dot(grad(f, every)(*p), v), every)(*p)"

TRANSFORMATIONS = [
    Transformation("grad", 1, "grad(f, every)(*p)"),
    Transformation("grad∘grad", 2, _HVP),
    Transformation("jvp∘grad", 2, "jvp(grad(f, every), p, v)[1]"),
    Transformation("grad∘jvp", 2, "grad(lambda *p: jvp(f, p, v)[1], every)(*p)"),
    Transformation(
        "grad∘vmap∘grad",
        2,
        "grad(lambda *p: dot(vmap(grad(f, every))(*p), v), every)(*p)",
        batch="each",
    ),
    Transformation(
        "grad∘vmap∘grad, shared",
        2,
        "grad(lambda *p: dot(vmap(grad(f, every), axes)(*p), v), every)(*p)",
        batch="shared",
    ),
    Transformation("vmap∘grad∘grad", 2, f"vmap(lambda p, v: {_HVP})(p, v)", batch="each"),
    Transformation("jvp∘jvp", 2, "jvp(lambda *p: jvp(f, p, v)[1], p, u)[1]", scalar=True),
    Transformation(
        "grad∘grad∘grad",
        3,
        f"grad(lambda *p: dot({_HVP}, t), every)(*p)",
    ),
]
MIXED = [
    Transformation("grad∘mixed", 2, "grad(lambda *p: dot(mixed(f)(*p), v), every)(*p)"),
    Transformation(
        "grad∘vmap∘mixed",
        2,
        "grad(lambda *p: dot(vmap(mixed(f), axes)(*p), v), every)(*p)",
        batch="shared",
    ),
    Transformation(
        "vmap∘grad∘mixed",
        2,
        "vmap(lambda p, v: grad(lambda *p: dot(mixed(f)(*p), v), every)(*p))(p, v)",
        batch="each",
    ),
]
"""With this library's inner gradient in `mixed` mode in place of the first grad."""

TASKS = 2
"""The length of the axis that vmap takes."""
