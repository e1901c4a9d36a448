"""Instructions on small arrays for `cpu/tape.h`, which says what each of them does."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LINE = 16
"""Arrays begin a multiple of so many numbers apart."""
LOOPS = 8
"""How many may be within one another."""


class UnsupportedError(Exception):
    """No instruction does this."""


class Array:
    """So many numbers: of an operand or a sum (`base` 1 and on), or of the memory of a task."""

    def __init__(self, size: int, base: int = 0, offset: int = 0):
        self.size, self.base, self.offset = size, base, offset


class Instruction(NamedTuple):
    """One of `cpu/tape.h`."""

    operation: str
    to: Array | None
    sources: tuple[Array, ...]
    numbers: tuple[int, ...]


class Tape:
    """A list of instructions that grows, and the constants that they use, which are operand 1."""

    CONSTANTS = 1

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.constants: list[np.ndarray] = [np.zeros(1)]  # XLA passes no array of no elements
        self._known: dict[bytes, Array] = {}

    def emit(self, operation: str, to: Array | None, *sources: Array, numbers: Any = ()) -> None:
        """Add an instruction."""
        self.instructions.append(Instruction(operation, to, sources, tuple(map(int, numbers))))

    def constant(self, numbers: np.ndarray) -> Array:
        """An array of given numbers."""
        key = numbers.tobytes()
        if key not in self._known:
            place = sum(constant.size for constant in self.constants)
            self._known[key] = Array(numbers.size, self.CONSTANTS, place)
            self.constants.append(numbers)
        return self._known[key]

    def move(
        self,
        operation: str,
        to: Array,
        source: Array,
        sizes: Sequence[int],
        steps: Sequence[int],
        source_steps: Sequence[int],
    ) -> None:
        """Copy or reduce along axes of `sizes`, of which those are joined that can be."""
        axes: list[tuple[int, int, int]] = []
        for size, step, source_step in zip(sizes, steps, source_steps, strict=True):
            if size == 1:
                continue
            if axes and axes[-1][1:] == (step * size, source_step * size):
                axes[-1] = (axes[-1][0] * size, step, source_step)
            else:
                axes.append((size, step, source_step))
        if len(axes) > 4:
            raise UnsupportedError(f"{operation} along {len(axes)} axes")
        axes = [(1, 0, 0)] * (4 - len(axes)) + axes
        numbers = [number for column in zip(*axes, strict=True) for number in column]
        self.emit(operation, to, source, numbers=numbers)

    def finish(self, codes: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
        """The program, its constants, and how many numbers of memory it takes."""
        self._drop_what_is_not_used()
        memory = self._place()
        program = np.zeros((len(self.instructions), 17), np.int64)
        for row, (operation, to, sources, numbers) in zip(program, self.instructions, strict=True):
            row[0] = codes.index(operation)
            for i, array in enumerate((to, *sources)):
                row[1 + i] = 0 if array is None else (array.base << 32) + array.offset
            row[5 : 5 + len(numbers)] = numbers
        constants = np.concatenate(self.constants)
        return program.reshape(-1), constants, memory

    def _drop_what_is_not_used(self) -> None:
        before = None
        while before != len(self.instructions):
            before = len(self.instructions)
            used = {array for each in self.instructions for array in each.sources}
            self.instructions = [
                each
                for each in self.instructions
                if each.to is None or each.to.base or each.to in used
            ]

    def _place(self) -> int:
        """Give each array a place, and tell how many numbers they take.

        An array is held from the first instruction that has to do with it to the last; and
        throughout a loop that it is not wholly within, for the loop comes back to its beginning.
        """
        spans: dict[Array, list[int]] = {}
        loops, begun = [], []
        for i, (operation, to, sources, _) in enumerate(self.instructions):
            if operation == "repeat":
                begun.append(i)
            elif operation == "again":
                loops.append((begun.pop(), i))
            for array in (to, *sources):
                if array is not None and array.base == 0:
                    spans.setdefault(array, [i, i])[1] = i
        for first, last in loops:  # the inner ones before the outer
            for span in spans.values():
                within = first <= span[0] and span[1] <= last
                apart = span[1] < first or last < span[0]
                if not within and not apart:
                    span[:] = min(first, span[0]), max(last, span[1])
        held: list[Array] = []
        memory = 0
        for array, (first, _) in sorted(spans.items(), key=lambda item: item[1][0]):
            held = sorted(
                (other for other in held if spans[other][1] >= first),
                key=lambda other: other.offset,
            )
            array.offset = 0
            for other in held:
                if array.offset + array.size <= other.offset:
                    break
                array.offset = -(-(other.offset + other.size) // LINE) * LINE
            held.append(array)
            memory = max(memory, array.offset + array.size)
        return memory


class Value(NamedTuple):
    """An array under a shape, row by row; if `uniform`, of one number for all elements."""

    array: Array
    shape: tuple[int, ...]
    uniform: bool = False

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def steps(self) -> list[int]:
        """How far it is from one element to the next, along each axis."""
        return [0] * len(self.shape) if self.uniform else row_major(self.shape)


def row_major(shape: Sequence[int]) -> list[int]:
    """Such steps where all elements of `shape` follow one another."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
