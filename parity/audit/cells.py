"""One cell: an operation under a transformation in a mode, and its verdict."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from parity.audit import numeric
from parity.audit.analytic import Derivatives, Noise, derivatives, error_of, length, noise
from parity.audit.backends import Mode, Runner
from parity.audit.head import of_primitives
from parity.audit.operations import Operation
from parity.audit.points import Arrays, Point, dot, points
from parity.audit.primitives import NUMPY
from parity.audit.transformations import MIXED, TRANSFORMATIONS, Batch, Transformation

RIGHT, WRONG, UNSUPPORTED, UNDECIDED = "right", "wrong", "not supported", "undecided"
FLOOR = 1e-2
"""The smallest scale of the number uᵀHv, as a fraction of ‖Hv‖ ‖u‖."""
NUMERIC_PRECISION = 1e-8
"""How far the two references may differ, relative to the derivative and the direction."""


@dataclass(frozen=True)
class Cell:
    """A verdict, and what it rests on. Errors are relative."""

    operation: str
    kind: str
    stack: str
    mode: str
    precision: str
    transformation: str
    order: int
    verdict: str
    error: float | None = None
    bound: float | None = None
    found: float | None = None
    """In the direction of the largest difference: what was found,"""
    expected: float | None = None
    """the primitives in the other framework,"""
    numeric: float | None = None
    """and the differences."""
    message: str | None = None
    """What the framework raised."""

    def to_json(self) -> dict[str, Any]:
        """The fields that are not empty; no figure that JSON cannot hold."""
        return {
            k: (str(v) if isinstance(v, float) and not np.isfinite(v) else v)
            for k, v in asdict(self).items()
            if v is not None
        }


class Truth:
    """The derivatives of one operation at one seed and scale, by both references."""

    def __init__(self, operation: Operation, stack: str, seed: int, scale: float):
        self.operation = operation
        self.framework = "jax" if stack == "torch" else "torch"
        self.points: dict[Batch, Point] = points(operation, seed, scale)
        self._by_batch: dict[Batch, list[Derivatives]] = {}

    @cached_property
    def noise(self) -> Noise:
        """What rounding costs, over all tasks."""
        places = [(p, v, v) for p, v in self.points["each"].tasks()]
        base = self.points["none"]
        return noise(self.operation, [(base.p, base.v, base.t), *places])

    def bound(self, transformation: Transformation, precision: str) -> float:
        """What rounding explains."""
        return self.noise.bound(transformation.order, precision)

    def expected(self, transformation: Transformation) -> Arrays:
        """By the primitives in the other framework; for uᵀHv, Hv."""
        point = self.points[transformation.batch]
        found = self._tasks(transformation.batch)
        return point.gather([task[transformation.order - 1] for task in found])

    def numeric(self, transformation: Transformation, direction: Arrays) -> float:
        """The product of the derivative with a direction, from values."""
        point = self.points[transformation.batch]
        f = of_primitives(NUMPY, self.operation.reference)
        others = self._others(transformation)
        return sum(
            numeric.derivative(f, p, [point.of_task(direction, k), *others(k)])
            for k, (p, _) in enumerate(point.tasks())
        )

    def disagreement(self, transformation: Transformation) -> float:
        """How far apart both references are, along u."""
        expected = self.expected(transformation)
        u = self.points[transformation.batch].u
        scale = length(expected) * length(u)
        return abs(self.numeric(transformation, u) - dot(expected, u)) / (scale or 1.0)

    def _others(self, transformation: Transformation) -> Callable[[int], list[Arrays]]:
        point = self.points[transformation.batch]
        vs = [v for _, v in point.tasks()]
        return lambda k: [vs[k], point.t][: transformation.order - 1]

    def _tasks(self, batch: Batch) -> list[Derivatives]:
        if batch not in self._by_batch:
            point = self.points[batch]
            self._by_batch[batch] = [
                derivatives(self.operation, self.framework, p, v, point.t if batch == "none" else v)
                for p, v in point.tasks()
            ]
        return self._by_batch[batch]


def transformations_of(operation: Operation, stack: str) -> list[Transformation]:
    """Those that a stack's operation is audited under."""
    if operation.kind == "programs":
        return TRANSFORMATIONS[:1]
    found = [*TRANSFORMATIONS, *(MIXED if stack == "maml-jax" else [])]
    single = len(operation.inputs) == 1
    return [t for t in found if not (single and t.name == "grad∘vmap∘grad, shared")]


class Reference(Protocol):
    """What a cell is held to."""

    @property
    def points(self) -> Mapping[Batch, Point]:
        """Where derivatives are taken."""

    def bound(self, transformation: Transformation, precision: str) -> float:
        """The relative error that rounding explains."""

    def expected(self, transformation: Transformation) -> Arrays:
        """The derivative; for uᵀHv, Hv."""

    def numeric(self, transformation: Transformation, direction: Arrays) -> float:
        """Its product with a direction, from an independent source."""


def cells(
    operation: Operation,
    stack: str,
    modes: Sequence[tuple[Mode, Sequence[str]]],
    *,
    seed: int = 0,
    scale: float = 1.0,
    device: str = "cpu",
) -> Iterator[Cell]:
    """All of one operation: each mode with the names of its transformations, none meaning all."""
    truth = Truth(operation, stack, seed, scale)
    for mode, names in modes:
        runner = Runner.of(operation, stack, mode, device)
        for transformation in transformations_of(operation, stack):
            wanted = not names or transformation.name in names or operation.kind == "programs"
            if wanted and runner.expresses(transformation):
                yield judged(runner, transformation, truth, operation.name, operation.kind)


def judged(
    runner: Runner, transformation: Transformation, truth: Reference, name: str, kind: str
) -> Cell:
    """The verdict on one cell.

    An error beyond rounding is "wrong" only if the differences, along the error itself, are nearer
    to the other framework's primitives than to what was found.
    """
    mode = runner.mode
    cell = partial(
        Cell,
        name,
        kind,
        runner.stack,
        mode.name,
        mode.precision,
        transformation.name,
        transformation.order,
    )
    point = truth.points[transformation.batch]
    try:
        found = runner.run(transformation, point)
    except Exception as raised:  # a framework refuses with exceptions of any kind
        return cell(UNSUPPORTED, message=refusal(raised))
    expected = truth.expected(transformation)
    bound = truth.bound(transformation, mode.precision)
    if isinstance(found, float):
        direction = point.u
        value, scale = dot(expected, direction), length(expected) * length(direction)
        size = max(abs(value), FLOOR * scale) or 1.0
        error, bound = abs(found - value) / size, bound * scale / size
    else:
        error = error_of(found, expected)
        difference = tuple(np.nan_to_num(a - b) for a, b in zip(found, expected, strict=True))
        direction = tuple(a / (length(difference) or 1.0) for a in difference)
        value, found = dot(expected, direction), dot(found, direction)
    if error <= bound:
        return cell(RIGHT, error=error, bound=bound)
    by_values = truth.numeric(transformation, direction)
    confirmed = not abs(found - by_values) <= 4 * abs(value - by_values)
    return cell(
        WRONG if confirmed else UNDECIDED,
        error=error,
        bound=bound,
        found=found,
        expected=value,
        numeric=by_values,
    )


def refusal(error: Exception) -> str:
    """The kind of an exception and the first line of what it says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:200] if lines else ''}"
