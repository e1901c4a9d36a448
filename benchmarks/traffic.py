r"""How many bytes a program for a TPU moves, between chip and memory and within the chip.

Claim: XLA's text of a compiled program says of each array whether it lies in the chip's own memory
(`S(1)` in its layout; 128 MiB on a v5e, some 20 times as fast) or in the large one beside it, and
in which tiles. XLA's own sum, `bytes accessed`, does not tell the two apart, and counts the body of
a loop once. Here each instruction that runs counts its result and its operands, by the size of
their whole tiles, as often as its loop goes round. A fusion that reads only slices of an operand,
or writes only a slice, counts the slices.
Repeat: `traffic(compiled.as_text())`; `tests/benchmarks/test_traffic.py` has programs by hand.
"""

import math
import re
from dataclasses import dataclass

ON_CHIP = "S(1)"
OF_THE_HOST = "S(5)"
BYTES = {"pred": 1, "token": 0, "opaque": 0}
"""Of the types whose name does not end in their bits."""
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("opt-barrier", "partition-id", "replica-id"),
}
"""What moves nothing."""
FREE_CALLS = ("AllocateBuffer", "ConcatBitcast")
STARTS = ("copy-start", "slice-start")
SLICES = {"dynamic-slice", "slice", "gather"}
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")


@dataclass(frozen=True)
class Traffic:
    """Of one run of the program."""

    memory: float = 0.0
    """Bytes read from and written to the large memory."""
    chip: float = 0.0
    """Bytes read and written in the memory on the chip."""
    instructions: int = 0
    """How many of the program's instructions run, one after another, and move something."""

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.memory + other.memory,
            self.chip + other.chip,
            self.instructions + other.instructions,
        )

    def times(self, count: int) -> "Traffic":
        """Of so many runs."""
        return Traffic(count * self.memory, count * self.chip, count * self.instructions)


NOTHING = Traffic()


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    operation: str
    inside: str
    """What stands in its brackets."""
    operands: list[str]
    rest: str
    is_root: bool

    def called(self, role: str) -> str:
        """The computation that this one calls as its `body`, `condition` or `calls`."""
        found = re.search(rf"\b{role}=%?([\w.\-]+)", self.rest)
        if found is None:
            raise ValueError(f"{self.operation} {self.name} names no {role}")
        return found[1]


Computations = dict[str, dict[str, Instruction]]


def traffic(text: str) -> Traffic:
    """What the program of this text moves.

    Raises:
      ValueError: no program, a loop that does not say how often it goes round, or what is not
        counted: branches, exchanges between chips, arrays in the host's memory.
    """
    entry, computations = _parsed(text)
    if entry not in computations:
        raise ValueError("the text has no ENTRY")
    return _of_computation(entry, computations)


def _parsed(text: str) -> tuple[str, Computations]:
    entry, computations, lines = "", Computations(), {}
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            lines = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif found := INSTRUCTION.match(line):
            lines[found[2]] = _instruction(found[2], found[3], bool(found[1]))
    return entry, computations


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    """Of `shape operation(operands), rest`; a shape in brackets is a tuple."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    operation, _, after = text[end:].strip().partition("(")
    inside = _closing("(" + after, 0) - 1
    within = after[:inside]
    operands = re.findall(r"%([\w.\-]+)", within)
    return Instruction(name, text[:end], operation, within, operands, after[inside + 1 :], is_root)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"a bracket is not closed: {text[:80]}")


def _of_computation(name: str, computations: Computations) -> Traffic:
    lines, total = computations[name], NOTHING
    for line in lines.values():
        if line.operation == "while":
            trips = _trips(line.called("condition"), computations)
            total += _of_computation(line.called("body"), computations).times(trips)
        elif line.operation == "call":
            total += _of_computation(line.called("to_apply"), computations)
        elif line.operation == "conditional":
            raise ValueError(f"which branch of {line.name} runs is not known")
        elif not _is_free(line):
            total += _of_line(line, lines, computations) + Traffic(instructions=1)
    return total


def _is_free(line: Instruction) -> bool:
    """A copy is counted where it starts, so not where it is done."""
    return (
        line.operation in FREE
        or line.operation.endswith("-done")
        or any(f'"{name}"' in line.rest for name in FREE_CALLS)
    )


def _trips(condition: str, computations: Computations) -> int:
    """Of a loop that counts from 0 up to the one constant of its condition, as JAX's scans do."""
    lines = computations[condition].values()
    counts = [int(line.inside) for line in lines if line.operation == "constant"]
    if len(counts) != 1:
        raise ValueError(f"the loop's condition {condition} has {len(counts)} constants, not one")
    if not any("direction=LT" in line.rest for line in lines):
        raise ValueError(f"the loop's condition {condition} is not that a count is less")
    return counts[0]


def _of_line(
    line: Instruction, lines: dict[str, Instruction], computations: Computations
) -> Traffic:
    if line.operation in STARTS:  # the shape has both ends, and a semaphore
        ends = [array for array in _arrays(line.shape) if "S(2)" not in array]
        amount = min(map(_bytes, ends))
        return sum((_moved(array, amount) for array in ends), NOTHING)
    if line.operation.endswith("-start"):
        raise ValueError(f"{line.operation} is not counted")
    if line.operation == "fusion":
        inner = computations[line.called("calls")]
        root = next(inside for inside in inner.values() if inside.is_root)
        reads = (
            _read(parameter, inner, lines[operand].shape, computations)
            for parameter, operand in zip(_parameters(inner), line.operands, strict=True)
        )
        return sum(reads, _written(_arrays(line.shape), root, inner))
    reads = (_read_by(line, operand, lines) for operand in line.operands)
    return sum(reads, _written(_arrays(line.shape), line, lines))


def _parameters(inner: dict[str, Instruction]) -> list[Instruction]:
    """In order."""
    found = [line for line in inner.values() if line.operation == "parameter"]
    return sorted(found, key=lambda line: int(line.inside))


def _written(arrays: list[str], root: Instruction, lines: dict[str, Instruction]) -> Traffic:
    """The results; of a change in place, what is changed."""
    if root.operation == "tuple" and len(arrays) == len(root.operands):
        parts = zip(arrays, root.operands, strict=True)
        return sum((_written([array], lines[name], lines) for array, name in parts), NOTHING)
    if root.operation == "bitcast":
        return _written(arrays, lines[root.operands[0]], lines)
    if root.operation == "dynamic-update-slice":
        return _moved(arrays[0], _size(lines[root.operands[1]].shape))
    return sum((_moved(array, _bytes(array)) for array in arrays), NOTHING)


def _in_place(inner: dict[str, Instruction]) -> set[str]:
    """The fusion's results, before what reinterprets or gathers them."""
    found = {line.name for line in inner.values() if line.is_root}
    for line in reversed(inner.values()):
        if line.name in found and line.operation in ("tuple", "bitcast"):
            found |= set(line.operands)
    return found


def _read(
    parameter: Instruction, inner: dict[str, Instruction], shape: str, computations: Computations
) -> Traffic:
    """Of an operand of a fusion: all of it, or the slices of it that the fusion takes."""
    arrays = _arrays(shape)
    whole = sum(map(_bytes, arrays))
    amount = min(whole, _taken(parameter, inner, whole, computations))
    return sum((_moved(array, amount / len(arrays)) for array in arrays), NOTHING)


def _taken(
    source: Instruction,
    inner: dict[str, Instruction],
    whole: float,
    computations: Computations,
) -> float:
    """Bytes of `source` that its users take."""
    results, total = _in_place(inner), 0.0
    if source.name in results:
        return whole
    for user in inner.values():
        if source.name not in user.operands:
            continue
        first = user.operands[0] == source.name
        if user.operation in SLICES and first:
            total += _size(user.shape)
        elif user.operation == "bitcast":
            total += _taken(user, inner, whole, computations)
        elif user.operation == "fusion":
            nested = computations[user.called("calls")]
            for parameter, operand in zip(_parameters(nested), user.operands, strict=True):
                if operand == source.name:
                    total += _taken(parameter, nested, whole, computations)
        elif not (user.operation == "dynamic-update-slice" and first and user.name in results):
            return whole
    return total


def _read_by(line: Instruction, operand: str, lines: dict[str, Instruction]) -> Traffic:
    shape, first = lines[operand].shape, operand == line.operands[0]
    if line.operation == "dynamic-update-slice" and first:
        return NOTHING
    part = _size(line.shape) if line.operation in SLICES and first else math.inf
    return sum((_moved(array, min(part, _bytes(array))) for array in _arrays(shape)), NOTHING)


def _moved(array: str, amount: float) -> Traffic:
    if OF_THE_HOST in array:
        raise ValueError(f"{array} lies in the host's memory, which is not counted")
    return Traffic(chip=amount) if ON_CHIP in array else Traffic(memory=amount)


def _arrays(shape: str) -> list[str]:
    return [found[0] for found in ARRAY.finditer(shape)]


def _size(shape: str) -> float:
    return sum(map(_bytes, _arrays(shape)))


def _bytes(array: str) -> float:
    """Of the whole tiles in which an array lies: `f32[5,64]{1,0:T(8,128)}` has 8 x 128 places."""
    ((kind, shape, layout),) = ARRAY.findall(array)
    sizes = [int(size) for size in shape.split(",") if size]
    order, _, tiling = layout.partition(":")
    minor_first = [sizes[int(axis)] for axis in order.split(",") if axis] or sizes[::-1]
    tile = re.match(r"T\(([\d,]+)\)", tiling)
    for place, side in enumerate(reversed([int(n) for n in tile[1].split(",")] if tile else [])):
        if place < len(minor_first):
            minor_first[place] = -(-minor_first[place] // side) * side
    digits = re.match(r"[a-z]+(\d+)", kind)
    width = int(digits[1]) / 8 if digits else BYTES[kind]
    return width * math.prod(minor_first)
