"""A function of the user's own, audited without a reference of primitives.

Its derivatives are held to differences of its own values, and of its own gradient once that has
been held to them. Both are in float64: an error of one part in 10⁶ is found, one of 10⁻¹² is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from maml_jax.errors import InputError
from parity.audit.analytic import UNIT64, length
from parity.audit.backends import Mode, Runner, names_of
from parity.audit.cells import (
    RIGHT,
    UNSUPPORTED,
    Cell,
    judged,
)
from parity.audit.head import TEXT
from parity.audit.numeric import STENCIL
from parity.audit.operations.operation import evaluate
from parity.audit.points import Arrays, Point, directions, dot
from parity.audit.transformations import TRANSFORMATIONS, Batch, Transformation

KINK = "at a kink"
STEPS = (1e-2, 1e-3, 1e-4)
"""Tried in this order until halving the step changes nothing."""
ENOUGH = 1e-6
DIRECTIONS = 12
"""In how many, at most, values tell what the gradient is."""
NEARBY = 1e-2
"""How far from the example the second task of a vmap is."""


@dataclass(frozen=True)
class Report:
    """The verdicts on one function."""

    cells: list[Cell]
    note: str = ""

    @property
    def correct(self) -> bool:
        """Whether every verdict is "right", or that the framework refuses."""
        return all(cell.verdict in (RIGHT, UNSUPPORTED) for cell in self.cells)

    def __str__(self) -> str:
        lines = [self.note] if self.note else []
        for cell in self.cells:
            error = "" if cell.error is None else f", relative error {cell.error:.1e}"
            message = f", {cell.message}" if cell.message else ""
            lines.append(f"{cell.transformation:<16} {cell.mode:<8} {cell.verdict}{error}{message}")
        return "\n".join(lines)


def check(
    function: Callable[..., Any], example: Sequence[Any], *, compiled: bool = False
) -> Report:
    """Audit a loss or a layer, in PyTorch or in JAX, at an example of its arguments.

    Every transformation (`grad∘grad`, `jvp∘grad`, …) of `function(*example)` is held to central
    differences of its values and of its gradient. An output that is no scalar is first reduced to
    Σᵢ cos(i) (yᵢ + yᵢ²/2 + yᵢ³/6).

    Args:
      function: any differentiable function of arrays, or of nests of them, that returns an array.
      example: its arguments: tensors of PyTorch or arrays of JAX. What is floating-point is
        differentiated, in float64; the rest stays as it is. At a kink there is nothing to audit.
      compiled: with `torch.compile` too; JAX has `jit` in any case.

    Raises:
      InputError: an example that has no floating-point array of PyTorch or JAX; a function that
        returns something else than one array.
    """
    mine = Own(function, example)
    if not mine.smooth:
        cell = Cell("function", "own", mine.stack, "values", "float64", "grad", 1, KINK)
        return Report([cell], "a kink lies at the example: move it, its derivative is a convention")
    found = []
    for mode in _modes(mine.stack, compiled):
        runner = Runner(mine.f_of(mode), len(mine.p), mine.stack, mode)
        for transformation in TRANSFORMATIONS:
            if transformation.batch != "shared" and runner.expresses(transformation):
                found.append(judged(runner, transformation, mine, "function", "own"))
    return Report(found)


def _modes(stack: str, compiled: bool) -> list[Mode]:
    names = ["func", "autograd"] if stack == "torch" else ["jit", "eager"]
    return [
        Mode(name, "float64") for name in [*names, *["compile"] * (compiled and stack == "torch")]
    ]


class Own:
    """What the cells of a function are held to; it has the methods of `cells.Reference`."""

    def __init__(self, function: Callable[..., Any], example: Sequence[Any]):
        self.function = function
        self.stack, self.p, self._rebuild = _flattened(example)
        size = max(float(np.mean([np.abs(a).mean() for a in self.p])), 0.1)
        u, v, t = directions(self.p, 0, size, 3)
        self.size = size
        near = directions(self.p, 1, NEARBY * size, 1)[0]
        stacked = tuple(np.stack([a, a + b]) for a, b in zip(self.p, near, strict=True))
        each = directions(stacked, 0, size, 2)
        self.points: dict[Batch, Point] = {
            "none": Point("none", self.p, u, v, t),
            "each": Point("each", stacked, each[0], each[1], each[1]),
        }
        self._values = _as_numpy(self.f_of(_modes(self.stack, False)[-1]), self.stack)
        self._gradient = self._reverse()
        self._known: dict[tuple[Batch, int, float], Arrays] = {}

    def f_of(self, mode: Mode) -> Callable[..., Any]:
        """The scalar function of the floating-point leaves."""
        head = evaluate(f"lambda y: {TEXT[self.stack]}", names_of(self.stack, mode.name))

        def f(*leaves: Any) -> Any:
            y = self.function(*self._rebuild(leaves))
            if not hasattr(y, "shape"):
                raise InputError(
                    f"`function` returned {type(y).__name__}; it may return one array."
                )
            return head(y) if y.shape else y

        return f

    @cached_property
    def step(self) -> float:
        """The largest step at which differences of values have converged, or NaN."""
        point = self.points["none"]
        for step in STEPS:
            whole, half = (self._difference([point.u], s, point.p) for s in (step, step / 2))
            if abs(whole - half) <= ENOUGH * max(abs(half), self._noise):
                return step
        return float("nan")

    @property
    def smooth(self) -> bool:
        """Whether the slopes on the two sides agree, and differences converge."""
        gaps = [self._gap(h * self.size) for h in (1e-4, 1e-5)]
        slope = abs(self._difference([self.points["none"].u], STEPS[-1], self.p))
        at_a_kink = gaps[1] > gaps[0] / 2 and gaps[1] > 1e-4 * slope
        return not at_a_kink and bool(np.isfinite(self.step))

    def _gap(self, h: float) -> float:
        """How far apart the slopes on the two sides are, along u; it shrinks with h if smooth."""
        u = self.points["none"].u
        ends = [tuple(a + s * h * b for a, b in zip(self.p, u, strict=True)) for s in (1, 0, -1)]
        above, here, below = (self._values(*end) for end in ends)
        return abs(above - 2 * here + below) / h

    def expected(self, transformation: Transformation) -> Arrays:
        """Differences of the gradient; of order one, the gradient corrected by values."""
        return self._expected(transformation, self.step)

    def bound(self, transformation: Transformation, precision: str) -> float:
        """How far the differences themselves move if the step is halved, and their rounding."""
        expected, half = (self._expected(transformation, s) for s in (self.step, self.step / 2))
        change = length(tuple(a - b for a, b in zip(expected, half, strict=True)))
        order = transformation.order
        rounding = UNIT64 * (1 if order == 1 else (2 / self.step) ** (order - 1))
        return 10 * (change / (length(expected) or 1.0)) + 1000 * rounding

    def numeric(self, transformation: Transformation, direction: Arrays) -> float:
        """Differences of values."""
        point = self.points[transformation.batch]
        total = 0.0
        for k, (p, v) in enumerate(point.tasks()):
            along = [point.of_task(direction, k), *[v, point.t][: transformation.order - 1]]
            total += self._difference(along, self.step, p)
        return total

    def _expected(self, transformation: Transformation, step: float) -> Arrays:
        key = transformation.batch, transformation.order, step
        if key not in self._known:
            self._known[key] = self._by_differences(*key)
        return self._known[key]

    def _by_differences(self, batch: Batch, order: int, step: float) -> Arrays:
        if order == 1:
            return self._corrected(step)
        point = self.points[batch]
        found = []
        for p, v in point.tasks():
            along = [v, point.t][: order - 1]
            found.append(_nested(self._gradient, p, along, step))
        return point.gather(found)

    def _corrected(self, step: float) -> Arrays:
        """The gradient by reverse mode, made to agree with values along a few directions."""
        found = self._gradient(*self.p)
        count = sum(a.size for a in self.p)
        rng = np.random.default_rng(0)
        basis, _ = np.linalg.qr(rng.normal(size=(count, min(count, DIRECTIONS))))
        for column in basis.T:
            parts = np.split(column, np.cumsum([a.size for a in self.p])[:-1])
            d = tuple(part.reshape(a.shape) for part, a in zip(parts, self.p, strict=True))
            missing = self._difference([d], step, self.p) - dot(found, d)
            found = tuple(a + missing * b for a, b in zip(found, d, strict=True))
        return found

    @cached_property
    def _noise(self) -> float:
        return abs(float(self._values(*self.points["none"].p))) * 1e-6

    def _difference(self, along: Sequence[Arrays], step: float, p: Arrays) -> float:
        return float(_nested(lambda *q: (np.asarray(self._values(*q)),), p, along, step)[0])

    def _reverse(self) -> Callable[..., Arrays]:
        mode = _modes(self.stack, False)[-1]
        runner = Runner(self.f_of(mode), len(self.p), self.stack, mode)
        grad = TRANSFORMATIONS[0]

        def gradient(*p: np.ndarray) -> Arrays:
            found = runner.run(grad, Point("none", p, p, p, p))
            assert isinstance(found, tuple)  # noqa: S101 - a gradient is no number
            return found

        return gradient


def _nested(f: Callable[..., Arrays], p: Arrays, along: Sequence[Arrays], step: float) -> Arrays:
    """The central difference of eighth order along all directions, each reaching `step` far."""
    reach = [step * max(float(np.abs(a).max()) for a in p if a.size) or step for _ in along]
    sizes = [max(float(np.abs(a).max()) for a in d) or 1.0 for d in along]
    s = [r / (4 * size) if along else 0.0 for r, size in zip(reach, sizes, strict=True)]
    total: Arrays | None = None
    for nodes in product(STENCIL, repeat=len(along)):
        weight = float(np.prod([w for _, w in nodes])) if nodes else 1.0
        moved = tuple(
            a + sum((k * h * d[i] for (k, _), h, d in zip(nodes, s, along, strict=True)), 0.0)
            for i, a in enumerate(p)
        )
        values = f(*moved)
        scaled = tuple(weight * np.asarray(a) for a in values)
        total = (
            scaled if total is None else tuple(a + b for a, b in zip(total, scaled, strict=True))
        )
    assert total is not None  # noqa: S101 - there is at least one node
    return tuple(a / float(np.prod(s)) if along else a for a in total)


def _as_numpy(f: Callable[..., Any], stack: str) -> Callable[..., float]:
    runner_mode = Mode("func" if stack == "torch" else "eager", "float64")
    runner = Runner(f, 1, stack, runner_mode)
    value = Transformation("value", 0, "f(*p)", scalar=True)

    def of(*p: np.ndarray) -> float:
        found = runner.run(value, Point("none", p, (), (), ()))
        return float(np.asarray(found).item() if not isinstance(found, float) else found)

    return of


def _flattened(
    example: Sequence[Any],
) -> tuple[str, Arrays, Callable[[Sequence[Any]], Sequence[Any]]]:
    """The stack, the floating-point leaves in float64, and what puts others in their place."""
    import jax
    import torch

    if not isinstance(example, (tuple, list)):
        raise InputError(
            f"`example` was {type(example).__name__}; it must be a tuple of the arguments."
        )
    leaves, tree = jax.tree.flatten(tuple(example))
    tensors = [isinstance(leaf, torch.Tensor) and leaf.is_floating_point() for leaf in leaves]
    arrays = [
        isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, np.floating)
        for leaf in leaves
    ]
    if any(tensors) == any(arrays):
        raise InputError(
            "`example` had floating-point arrays of "
            f"{'both' if any(arrays) else 'neither'} PyTorch and JAX; it must have some of one."
        )
    stack, places = ("torch", tensors) if any(tensors) else ("jax", arrays)
    chosen = [leaf for leaf, yes in zip(leaves, places, strict=True) if yes]
    p = tuple(
        np.asarray(leaf.detach().cpu() if stack == "torch" else leaf, np.float64) for leaf in chosen
    )

    def rebuild(found: Sequence[Any]) -> Sequence[Any]:
        given = iter(found)
        whole = [next(given) if yes else leaf for leaf, yes in zip(leaves, places, strict=True)]
        return jax.tree.unflatten(tree, whole)

    return stack, p, rebuild
