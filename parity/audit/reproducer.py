"""A program of at most 15 lines that shows one wrong cell: what was found, and what values say.

It runs by itself, without this package. What is expected comes from central differences of the
function's own values, extrapolated once.
"""

from parity.audit.backends import INNER
from parity.audit.head import TEXT
from parity.audit.maml_text import MAML
from parity.audit.operations import OPERATIONS, Operation
from parity.audit.transformations import MIXED, TASKS, TRANSFORMATIONS, Transformation

MOST_LINES = 15
_RNG = "rng = np.random.default_rng({})"
_STEP = {1: "1e-3", 2: "4e-3", 3: "1e-2"}
_OWN = "import maml_jax as mj; from maml_jax.models import layers as mj_layers"
_MIXED = "from parity.audit.namespaces import jax_names; mixed = jax_names()['mixed']"


def reproducer(
    operation: str,
    stack: str,
    mode: str,
    precision: str,
    transformation: str,
    *,
    seed: int = 0,
    scale: float = 1.0,
) -> str:
    """The program for a cell, by the names that the cell has."""
    op = next(o for o in OPERATIONS if o.name == operation)
    how = next(t for t in [*TRANSFORMATIONS, *MIXED] if t.name == transformation)
    imports, setup, array = _framework(op, stack, mode, how)
    if op.kind == "programs":
        return "\n".join(_program(op, stack, mode, imports, f"{setup}; {_RNG.format(seed)}", array))
    lines = [
        *imports,
        f"{setup}; {_RNG.format(seed)}",
        *_inputs(op, how, array, mode, scale),
        *_function(op, stack),
        *_found(op, how, stack, mode, precision),
        *_expected(how),
    ]
    return "\n".join(lines)


def _framework(
    op: Operation, stack: str, mode: str, how: Transformation
) -> tuple[list[str], str, str]:
    """Imports, what sets float64, and what makes an array."""
    text = f"{op.call(stack)} {how.expression} {MAML if op.kind == 'programs' else ''}"
    names = [name for name in ("grad", "jvp", "vmap") if f"{name}(" in text]
    more = ["from itertools import product"] * (how.order > 1)
    if stack == "torch":
        first = "import numpy as np, torch, torch.nn.functional as F"
        if mode in ("autograd", INNER):
            names.remove("grad")
        taken = [f"from torch.func import {', '.join(names)}"] if names else []
        return [first, *more, *taken], "torch.set_default_dtype(torch.float64)", "torch.tensor"
    first = "import jax, jax.numpy as jnp, numpy as np"
    libraries = [f"import {name}" for name in ("optax",) if f"{name}." in text]
    libraries += ["from flax import linen"] if "linen." in text else []
    libraries += [_OWN] if "mj" in text else []
    libraries += [_MIXED] if "mixed" in text or "own_maml" in text else []
    first = "; ".join([first, *libraries])
    names += ["lax"] if "lax." in text else []
    taken = [f"from jax import {', '.join(names)}"]
    return (
        [first, *more, *taken],
        "jax.config.update('jax_enable_x64', True)",
        "jnp.array",
    )


def _inputs(op: Operation, how: Transformation, array: str, mode: str, scale: float) -> list[str]:
    factor = f"{scale!r} * " if op.scaled and scale != 1 else ""
    leaf = ".requires_grad_()" if mode in ("autograd", INNER) else ""
    values = f"({', '.join(op.inputs.values())},)"
    one = f"[{array}({factor}a){leaf} for a in {values}]"
    wide = "a.shape"
    if how.batch == "none":
        lines = [f"p = tuple({one})"]
    else:
        stack = array.partition(".")[0] + ".stack"
        lines = [
            f"make = lambda: {one}",
            f"p = tuple({stack}(a) for a in zip({', '.join(['make()'] * TASKS)}))",
        ]
        if how.batch == "shared":
            lines[1] += "; p = (p[0], *make()[1:])"
            wide = f"({TASKS}, *a.shape) if k else a.shape"
    kind = f"{array}(rng.uniform(-1, 1, {{}}))"
    plain = f"tuple({kind.format('a.shape')} for a in p)"
    if how.batch == "shared":
        lines.append(f"u = {plain}")
        lines.append(f"v = tuple({kind.format(wide)} for k, a in enumerate(p))")
    else:
        names = "uvt"[: how.order]
        lines.append(
            f"u = {plain}"
            if how.order == 1
            else f"{', '.join(names)} = ({plain} for _ in range({how.order}))"
        )
    return lines


def _program(
    op: Operation, stack: str, mode: str, imports: list[str], setup: str, array: str
) -> list[str]:
    """For a whole meta-gradient, without the head."""
    names = ", ".join(op.inputs)
    maml = ["own_maml = jax_names()['own_maml']"] if stack == "maml-jax" else MAML.splitlines()
    gradient = f"grad(f, {tuple(range(len(op.inputs)))})"
    gradient = f"jax.jit({gradient})" if mode == "jit" else gradient
    difference, show = _expected(TRANSFORMATIONS[0])
    return [
        *imports[:-1],
        f"{imports[-1]}; {setup}",
        *_inputs(op, TRANSFORMATIONS[0], array, mode, 1.0),
        *maml,
        f"f = lambda {names}: {op.call(stack)}",
        f"found = sum((a * b).sum() for a, b in zip({gradient}(*p), u))",
        difference,
        show.replace("dot(found, u)", "found"),
    ]


def _function(op: Operation, stack: str) -> list[str]:
    return [
        f"def f({', '.join(op.inputs)}):",
        f"    y = {op.call(stack)}",
        f"    return {TEXT[stack]}",
    ]


def _found(op: Operation, how: Transformation, stack: str, mode: str, precision: str) -> list[str]:
    count = len(op.inputs)
    expression = how.expression.replace("every", repr(tuple(range(count))))
    expression = expression.replace("axes", repr((0, *[None] * (count - 1))))
    if mode in ("autograd", INNER):
        expression = _by_autograd(how.order, compiled=mode == INNER)
    arrays = ["p", *"uvt"[: max(how.order, 1)]]
    call = f"(lambda {', '.join(arrays)}: {expression})"
    given = ", ".join(arrays)
    if precision == "float32":
        single = "torch.float32" if stack == "torch" else "'float32'"
        kind = "to" if stack == "torch" else "astype"
        given = f"*(tuple(a.{kind}({single}) for a in d) for d in ({given}))"
    if mode == "jit":
        call = f"jax.jit{call}"
    elif mode.startswith("compile"):
        backend = mode.partition(" ")[2] or "inductor"
        call = f"torch.compile({call[1:-1]}, backend={backend!r})"
    plain = precision == "float64" and mode in ("func", "autograd", "eager", INNER)
    found = f"found = {expression if plain else f'{call}({given})'}"
    if precision == "float32" and stack == "torch":
        before, after = (f"torch.set_default_dtype(torch.float{k})" for k in (32, 64))
        found = f"{before}; {found}; {after}"
    elif precision == "float32":
        found = f"with jax.enable_x64(False): {found}"
    dot = "dot = lambda a, b: sum((x * y).sum() for x, y in zip(a, b))"
    return [dot, found]


def _by_autograd(order: int, compiled: bool) -> str:
    """Nested `torch.autograd.grad`."""
    expression = "torch.autograd.grad(f(*p), p, create_graph=True)"
    if compiled:
        expression = f"torch.compile(lambda *p: {expression}, backend='aot_eager')(*p)"
    for direction in "vt"[: order - 1]:
        expression = f"torch.autograd.grad(dot({expression}, {direction}), p, create_graph=True)"
    return expression


def _expected(how: Transformation) -> list[str]:
    value = "sum(map(f, *{}))" if how.batch != "none" else "f(*{})"
    h = _STEP[how.order]
    if how.order == 1:
        moved = ["[a + h * b for a, b in zip(p, u)]", "[a - h * b for a, b in zip(p, u)]"]
        ends = " - ".join(value.format(text) for text in moved)
        difference = f"D = lambda h: ({ends}) / (2 * h)"
    else:
        names = "uvt"[: how.order]
        signs = [f"s{k}" for k in range(how.order)]
        terms = " + ".join(f"{s} * {d}" for s, d in zip(signs, "bcd", strict=False))
        pairs = ", ".join("bcd"[: how.order])
        moved_all = f"[a + h * ({terms}) for a, {pairs} in zip(p, {', '.join(names)})]"
        difference = (
            f"D = lambda h: sum({' * '.join(signs)} * {value.format(moved_all)} for "
            f"{', '.join(signs)} in product((1, -1), repeat={how.order})) / (2 * h) ** {how.order}"
        )
    found = "found.item()" if how.scalar else "dot(found, u).item()"
    return [
        difference,
        f"print('found', {found}, 'expected', ((4 * D({h} / 2) - D({h})) / 3).item())",
    ]
