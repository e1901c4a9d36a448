"""Conventions: what each framework returns where a function has a kink or a tie.

There no derivative is right. Any number between the slopes on the two sides is a subgradient, and
which one a framework takes is its convention; a number outside of them is none, nor is NaN.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from parity.audit.namespaces import jax_names, torch_names
from parity.audit.operations.operation import evaluate

STEP = 1e-6
"""Of the one-sided slopes."""
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Kink:
    """A function of one number `x`, and where its kink is; None where a framework lacks it."""

    name: str
    at: float
    torch: str | None
    jax: str | None
    own: str | None = None


@dataclass(frozen=True)
class Convention:
    """The slopes on the two sides, and the derivatives that each framework returns."""

    name: str
    at: float
    left: float
    right: float
    torch: str
    torch_forward: str
    jax: str
    own: str

    @property
    def outside(self) -> list[str]:
        """The frameworks whose number is no subgradient."""
        low, high = sorted((self.left, self.right))

        def is_outside(text: str) -> bool:
            try:
                value = float(text)
            except ValueError:  # it has none, or refuses
                return False
            return not low - _TOLERANCE <= value <= high + _TOLERANCE

        columns = ("torch", "torch_forward", "jax", "own")
        return [name for name in columns if is_outside(getattr(self, name))]

    def to_json(self) -> dict[str, Any]:
        """Its fields, and `outside`."""
        return asdict(self) | {"outside": self.outside}


_NORM = "torch.linalg.vector_norm(torch.stack((x, x * 0)))"
_JNORM = "jnp.linalg.norm(jnp.stack((x, x * 0)))"
_PAIR = "torch.stack((x, torch.ones_like(x)))"
_JPAIR = "jnp.stack((x, jnp.ones_like(x)))"
_TRIPLE = "torch.stack((x, torch.ones_like(x), torch.ones_like(x) * 3))"
_JTRIPLE = "jnp.stack((x, jnp.ones_like(x), jnp.ones_like(x) * 3))"

KINKS = [
    Kink("relu", 0, "F.relu(x)", "jax.nn.relu(x)"),
    Kink("maximum(x, 0)", 0, "torch.maximum(x, torch.zeros_like(x))", "jnp.maximum(x, 0)"),
    Kink("clamp(x, min=0)", 0, "torch.clamp(x, min=0)", "jnp.clip(x, 0)"),
    Kink("where(x > 0, x, 0)", 0, "torch.where(x > 0, x, 0.0)", "jnp.where(x > 0, x, 0)"),
    Kink("abs", 0, "torch.abs(x)", "jnp.abs(x)"),
    Kink("sqrt(x²)", 0, "torch.sqrt(x**2)", "jnp.sqrt(x**2)"),
    Kink("leaky_relu, 0.25", 0, "F.leaky_relu(x, 0.25)", "jax.nn.leaky_relu(x, 0.25)"),
    Kink(
        "prelu, 0.25",
        0,
        "F.prelu(x[None, None], torch.tensor([0.25]))[0, 0]",
        "jnp.where(x >= 0, x, 0.25 * x)",
    ),
    Kink("celu, α = 2", 0, "F.celu(x, 2.0)", "jax.nn.celu(x, 2.0)"),
    Kink("elu, α = 2", 0, "F.elu(x, 2.0)", "jax.nn.elu(x, 2.0)"),
    Kink("selu", 0, "F.selu(x)", "jax.nn.selu(x)"),
    Kink("relu6", 0, "F.relu6(x)", "jax.nn.relu6(x)"),
    Kink("relu6", 6, "F.relu6(x)", "jax.nn.relu6(x)"),
    Kink("hard tanh", 1, "F.hardtanh(x)", "jax.nn.hard_tanh(x)"),
    Kink("hard tanh", -1, "F.hardtanh(x)", "jax.nn.hard_tanh(x)"),
    Kink("hard sigmoid", 3, "F.hardsigmoid(x)", "jax.nn.hard_sigmoid(x)"),
    Kink("hard sigmoid", -3, "F.hardsigmoid(x)", "jax.nn.hard_sigmoid(x)"),
    Kink("hard swish", 3, "F.hardswish(x)", "jax.nn.hard_swish(x)"),
    Kink("hard swish", -3, "F.hardswish(x)", "jax.nn.hard_swish(x)"),
    Kink("soft shrink, 0.5", 0.5, "F.softshrink(x, 0.5)", None),
    Kink("clip to [−1, 1]", 1, "torch.clamp(x, -1.0, 1.0)", "jnp.clip(x, -1, 1)"),
    Kink("clip to [−1, 1]", -1, "torch.clamp(x, -1.0, 1.0)", "jnp.clip(x, -1, 1)"),
    Kink("maximum(x, 1)", 1, "torch.maximum(x, torch.ones_like(x))", "jnp.maximum(x, 1)"),
    Kink("maximum(1, x)", 1, "torch.maximum(torch.ones_like(x), x)", "jnp.maximum(1, x)"),
    Kink("minimum(x, 1)", 1, "torch.minimum(x, torch.ones_like(x))", "jnp.minimum(x, 1)"),
    Kink("max of (x, 1)", 1, f"torch.amax({_PAIR}, 0)", f"jnp.max({_JPAIR})"),
    Kink("max of all of (x, 1)", 1, f"torch.max({_PAIR})", f"jnp.max({_JPAIR})"),
    Kink("max with its index of (x, 1)", 1, f"torch.max({_PAIR}, 0).values", None),
    Kink(
        "max with its index of (1, x)",
        1,
        f"torch.max({_PAIR}.flip(0), 0).values",
        None,
    ),
    Kink(
        "max pooling of (x, 1)",
        1,
        f"F.max_pool1d({_PAIR}[None, None], 2)[0, 0, 0]",
        f"linen.max_pool({_JPAIR}[None, :, None], (2,))[0, 0, 0]",
        f"mj_layers.max_pool(jnp.stack(({_JPAIR}, jnp.zeros(2)))[None, :, :, None])[0, 0, 0, 0]",
    ),
    Kink(
        "max pooling of (1, x)",
        1,
        f"F.max_pool1d({_PAIR}.flip(0)[None, None], 2)[0, 0, 0]",
        f"linen.max_pool({_JPAIR}[::-1][None, :, None], (2,))[0, 0, 0]",
        f"mj_layers.max_pool(jnp.stack(({_JPAIR}[::-1], jnp.zeros(2)))[None, :, :, None])"
        "[0, 0, 0, 0]",
    ),
    Kink("last of sort of (x, 1)", 1, f"torch.sort({_PAIR}).values[1]", f"jnp.sort({_JPAIR})[1]"),
    Kink(
        "top 1 of (x, 1)", 1, f"torch.topk({_PAIR}, 1).values[0]", f"lax.top_k({_JPAIR}, 1)[0][0]"
    ),
    Kink(
        "cumulative max of (x, 1)",
        1,
        f"torch.cummax({_PAIR}, 0).values[1]",
        f"lax.cummax({_JPAIR})[1]",
    ),
    Kink("median of (x, 1, 3)", 1, f"torch.median({_TRIPLE})", f"jnp.median({_JTRIPLE})"),
    Kink("norm of (x, 0)", 0, _NORM, _JNORM),
    Kink(
        "root of the sum of squares",
        0,
        "torch.sqrt((torch.stack((x, x * 0)) ** 2).sum())",
        "jnp.sqrt((jnp.stack((x, x * 0)) ** 2).sum())",
    ),
    Kink(
        "distance of x and 1",
        1,
        "torch.cdist(x[None, None], torch.ones(1, 1))[0, 0]",
        "jnp.linalg.norm(x[None] - 1)",
    ),
    Kink("standard deviation of (x, 1)", 1, f"torch.std({_PAIR})", f"jnp.std({_JPAIR}, ddof=1)"),
    Kink(
        "clipping by a norm of 1",
        1,
        "x * torch.clamp(1 / torch.linalg.vector_norm(x), max=1.0)",
        "optax.clip_by_global_norm(1.0).update(x, optax.EmptyState())[0]",
    ),
    Kink(
        "hinge max(0, 1 − x)",
        1,
        "F.margin_ranking_loss(x, x * 0, torch.ones_like(x), 1.0)",
        "optax.hinge_loss(x, 1.0)",
    ),
    Kink("L1 loss", 0, "F.l1_loss(x, torch.zeros_like(x))", "jnp.abs(x - 0).mean()"),
]


def conventions(kinks: list[Kink] = KINKS) -> list[Convention]:
    """What the installed versions return at each."""
    names = {"torch": torch_names(), "jax": jax_names()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_convention(kink, names) for kink in kinks]


def _convention(kink: Kink, names: dict[str, dict[str, Any]]) -> Convention:
    text = kink.torch or kink.jax
    stack = "torch" if kink.torch else "jax"
    f = evaluate(f"lambda x: {text}", names[stack])
    value: Callable[[float], float] = _torch_value(f) if stack == "torch" else _jax_value(f)
    here, h = value(kink.at), STEP
    forward = "grad(f)(x)", "jvp(f, (x,), (torch.ones_like(x),))[1]"
    torch_grad, torch_jvp = (
        _number(kink.torch, how, kink.at, names["torch"], _torch_value) for how in forward
    )
    jax_grad, own_grad = (
        _number(text, forward[0], kink.at, names["jax"], _jax_value)
        for text in (kink.jax, kink.own)
    )
    return Convention(
        kink.name,
        kink.at,
        round((here - value(kink.at - h)) / h, 4),
        round((value(kink.at + h) - here) / h, 4),
        torch_grad,
        torch_jvp,
        jax_grad,
        own_grad,
    )


def _number(text: str | None, how: str, at: float, names: dict[str, Any], run: Any) -> str:
    if text is None:
        return "—"
    f = evaluate(f"lambda x: {text}", names)
    try:
        found = run(evaluate(f"lambda x: {how}", names | {"f": f}))(at)
    except Exception:  # a framework refuses with exceptions of any kind
        return "refused"
    return "NaN" if math.isnan(found) else f"{found:.4g}"


def _torch_value(f: Callable[[Any], Any]) -> Callable[[float], float]:
    import torch

    def value(x: float) -> float:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return float(f(torch.tensor(float(x))).detach())
        finally:
            torch.set_default_dtype(before)

    return value


def _jax_value(f: Callable[[Any], Any]) -> Callable[[float], float]:
    import jax

    def value(x: float) -> float:
        with jax.enable_x64(True):
            return float(f(jax.numpy.asarray(float(x))))

    return value
