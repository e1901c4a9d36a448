"""From a function, as JAX has traced it, to a tape."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, Literal

from maml_jax.kernels.tape import LOOPS, Array, Tape, UnsupportedError, Value

Shape = tuple[int, ...]


def transcribe(jaxpr: Jaxpr, dtype: np.dtype) -> Tape:
    """The tape that adds each result to a sum of its own, after the operands of `jaxpr`.

    Raises:
      UnsupportedError: something in it cannot be done by a tape in numbers of type `dtype`.
    """
    transcript = Transcript(dtype)
    variables: tuple[Any, ...] = (*jaxpr.constvars, *jaxpr.invars)
    operands = [
        Value(Array(math.prod(variable.aval.shape), Tape.CONSTANTS + 1 + i), variable.aval.shape)
        for i, variable in enumerate(variables)
    ]
    for variable in variables:
        transcript.check(variable.aval)
    count = len(jaxpr.constvars)
    tape = transcript.tape
    for i, result in enumerate(transcript.run(jaxpr, operands[:count], operands[count:])):
        to = Array(result.size, Tape.CONSTANTS + 1 + len(operands) + i)
        tape.emit("add", to, to, result.array, numbers=(result.size, 1, not result.uniform))
    return tape


class Transcript:
    """Takes one operation of JAX after another; each method gives the values it results in."""

    def __init__(self, dtype: np.dtype):
        self.tape = Tape()
        self.dtype = dtype
        self.depth = 0
        self.known: dict[tuple[Any, ...], Array] = {}
        """What was computed of what, for derivatives want much of it again."""

    def run(self, jaxpr: Any, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
        """Take all of `jaxpr`, open or closed."""
        if hasattr(jaxpr, "consts"):
            constants, jaxpr = [self.constant(each) for each in jaxpr.consts], jaxpr.jaxpr
        for variable in jaxpr.constvars:
            self.check(variable.aval)
        names = (*jaxpr.constvars, *jaxpr.invars)
        values: dict[Any, Value] = dict(zip(names, (*constants, *inputs), strict=True))

        def read(atom: Any) -> Value:
            return self.constant(atom.val) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            for variable in (*equation.invars, *equation.outvars):
                self.check(variable.aval)
            results = self.take(equation, [read(atom) for atom in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def check(self, aval: Any) -> None:
        """Whether numbers of the tape's one type can stand for those of `aval`."""
        if aval.dtype not in (self.dtype, np.int32, np.int64, np.bool_):
            raise UnsupportedError(f"numbers of {aval.dtype}")

    def take(self, equation: Any, inputs: list[Value]) -> list[Value]:
        """Take one operation."""
        name, parameters = equation.primitive.name, equation.params
        if name in CALLS:
            return self.run(parameters[CALLS[name]], (), inputs)
        if name == "scan":
            return self.scan(inputs, parameters)
        if len(equation.outvars) != 1:
            raise UnsupportedError(name)
        result = equation.outvars[0].aval
        if name in SLOW and result.size > MANY:
            raise UnsupportedError(f"{name} of {result.size} numbers")
        if name in ELEMENTWISE:
            if result.dtype.kind == "i" and ELEMENTWISE[name] not in OF_INTEGERS:
                raise UnsupportedError(f"{name} of integers")
            return [self.elementwise(ELEMENTWISE[name], result.shape, *inputs)]
        if name in UNCHANGED:
            return [inputs[0]._replace(shape=result.shape)]
        if name not in OTHERS:
            raise UnsupportedError(name)
        return [OTHERS[name](self, equation, *inputs)]

    def constant(self, number: Any) -> Value:
        """Numbers that are known now."""
        array = np.asarray(number)
        flat = array.astype(self.dtype).reshape(-1)
        uniform = flat.size > 0 and bool((flat == flat[0]).all())
        return Value(self.tape.constant(flat[:1] if uniform else flat), array.shape, uniform)

    def elementwise(self, operation: str, shape: Shape, *values: Value) -> Value:
        """Element by element, after the broadcasting that JAX leaves to the operation."""
        values = tuple(self.broadcast(value, shape) for value in values)
        uniform = all(value.uniform for value in values)
        size = 1 if uniform else math.prod(shape)
        many = [uniform or not value.uniform for value in values]
        arrays = [value.array for value in values]
        return Value(self.once(operation, size, *arrays, numbers=(size, *many)), shape, uniform)

    def once(self, operation: str, size: int, *sources: Array, numbers: Sequence[int]) -> Array:
        """A new array of what an operation makes of others, or one that is there already."""
        key = (operation, *sources, *numbers)
        if key not in self.known:
            self.known[key] = Array(size)
            self.tape.emit(operation, self.known[key], *sources, numbers=numbers)
        return self.known[key]

    def broadcast(self, value: Value, shape: Shape, axes: Sequence[int] | None = None) -> Value:
        """To `shape`, whose `axes`, the last ones if not given, are the value's."""
        if value.size == 1:
            return value._replace(shape=shape, uniform=True)
        if value.uniform or value.size == math.prod(shape):
            return value._replace(shape=shape)
        if axes is None:
            axes = range(len(shape) - len(value.shape), len(shape))
        steps = [0] * len(shape)
        for axis, size, step in zip(axes, value.shape, value.steps, strict=True):
            steps[axis] = 0 if size == 1 else step
        return self.copy(value, shape, steps)

    def copy(self, value: Value, shape: Shape, steps: Sequence[int]) -> Value:
        """A new array of `shape`, whose elements lie so many steps apart in the old one."""
        copy = Value(Array(math.prod(shape)), shape)
        self.tape.move("copy", copy.array, value.array, shape, copy.steps, steps)
        return copy

    def dense(self, value: Value) -> Array:
        """All elements one by one."""
        return self.copy(value, value.shape, value.steps).array if value.uniform else value.array

    def transposed(self, value: Value, columns: int) -> Array:
        """Of the matrix of so many columns."""
        array, rows = self.dense(value), value.size // columns
        if rows == 1 or columns == 1:
            return array
        return self.once("transpose", value.size, array, numbers=(rows, columns))

    def product(
        self, rows: int, columns: int, depth: int, a: Array, b: Array, turned: bool = False
    ) -> Array:
        """`[rows, columns]` of a `[rows, depth]`, or if `turned` `[depth, rows]`, and of b."""
        steps = (1, rows) if turned else (depth, 1)
        return self.once("product", rows * columns, a, b, numbers=(rows, columns, depth, *steps))

    def reduce(self, operation: str, value: Value, axes: Sequence[int]) -> Value:
        """The sum or the maximum along `axes`."""
        shape = tuple(size for axis, size in enumerate(value.shape) if axis not in axes)
        result = Value(Array(math.prod(shape)), shape)
        if result.size == value.size:
            return value._replace(shape=shape)
        start = self.constant(np.asarray(START[operation], self.dtype)).array
        self.tape.move("copy", result.array, start, [result.size], [1], [0])
        steps = iter(result.steps)
        to_steps = [0 if axis in axes else next(steps) for axis in range(len(value.shape))]
        self.tape.move(operation, result.array, value.array, value.shape, to_steps, value.steps)
        return result

    def scan(self, inputs: list[Value], parameters: Any) -> list[Value]:
        """A loop: of one step, what is in it; else it carries some arrays and stacks others."""
        jaxpr, length = parameters["jaxpr"], parameters["length"]
        shared = inputs[: parameters["num_consts"]]
        count = parameters["num_carry"]
        carry, stacks = inputs[len(shared) :][:count], inputs[len(shared) :][count:]
        if length == 0:
            shapes = [aval.shape for aval in jaxpr.out_avals[count:]]
            return [*carry, *(Value(Array(0), (0, *shape)) for shape in shapes)]
        if length == 1:
            parts = [stack._replace(shape=stack.shape[1:]) for stack in stacks]
            results = self.run(jaxpr, (), [*shared, *carry, *parts])
            seen = [value._replace(shape=(1, *value.shape)) for value in results[count:]]
            return [*results[:count], *seen]
        self.depth += 1
        if self.depth > LOOPS:
            raise UnsupportedError(f"{self.depth} loops within one another")
        held = [self.copy(value, value.shape, value.steps) for value in carry]
        tape, order = self.tape, (length - 1, -1) if parameters["reverse"] else (0, 1)
        tape.emit("repeat", None)
        parts = []
        for stack in stacks:
            part = stack._replace(shape=stack.shape[1:])
            if not stack.uniform:
                part = part._replace(array=Array(part.size))
                tape.emit("take", part.array, stack.array, numbers=(part.size, *order))
            parts.append(part)
        results = self.run(jaxpr, (), [*shared, *held, *parts])
        seen = []
        for value in results[count:]:
            stack = Value(Array(length * value.size), (length, *value.shape))
            tape.emit("put", stack.array, self.dense(value), numbers=(value.size, *order))
            seen.append(stack)
        # First all are computed, for one may be what another was.
        fresh = [self.copy(value, value.shape, value.steps) for value in results[:count]]
        for to, value in zip(held, fresh, strict=True):
            tape.move("copy", to.array, value.array, [value.size], [1], [1])
        tape.emit("again", None, numbers=(length,))
        self.depth -= 1
        changed = {value.array for value in held}
        self.known = {key: array for key, array in self.known.items() if not changed & {*key}}
        return [*held, *seen]


def _broadcast_in_dim(to: Transcript, equation: Any, value: Value) -> Value:
    parameters = equation.params
    return to.broadcast(value, parameters["shape"], parameters["broadcast_dimensions"])


def _transpose(to: Transcript, equation: Any, value: Value) -> Value:
    axes = equation.params["permutation"]
    shape = tuple(value.shape[axis] for axis in axes)
    if value.uniform:
        return value._replace(shape=shape)
    return to.copy(value, shape, [value.steps[axis] for axis in axes])


def _reduce(to: Transcript, equation: Any, value: Value) -> Value:
    return to.reduce(equation.primitive.name, value, equation.params["axes"])


def _argmax(to: Transcript, equation: Any, value: Value) -> Value:
    """The first place of the maximum; one beyond the last where there is NaN."""
    (axis,) = equation.params["axes"]
    steps = [1 if i == axis else 0 for i in range(len(value.shape))]
    most = to.reduce("reduce_max", value, [axis])
    most = to.broadcast(most, value.shape, [i for i in range(len(value.shape)) if i != axis])
    found = to.elementwise("eq", value.shape, value, most)
    places = to.constant(-np.arange(value.shape[axis]))
    places = to.copy(places, value.shape, steps)
    nowhere = to.constant(-value.shape[axis])
    first = to.elementwise("select_n", value.shape, found, nowhere, places)
    last = to.reduce("reduce_max", first, [axis])
    return to.elementwise("neg", last.shape, last)


def _convert(to: Transcript, equation: Any, value: Value) -> Value:
    before, after = equation.invars[0].aval.dtype.kind, equation.params["new_dtype"].kind
    if after == "b" and before != "b":
        return to.elementwise("ne", value.shape, value, to.constant(0))
    if after == "i" and before == "f":
        raise UnsupportedError("rounding")
    return value


def _select(to: Transcript, equation: Any, which: Value, *cases: Value) -> Value:
    if len(cases) != 2 or equation.invars[0].aval.dtype != np.bool_:
        raise UnsupportedError("a choice among more than two")
    return to.elementwise("select_n", equation.outvars[0].aval.shape, which, *cases)


def _iota(to: Transcript, equation: Any) -> Value:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    along = [-1 if i == axis else 1 for i in range(len(shape))]
    return to.constant(np.broadcast_to(np.arange(shape[axis]).reshape(along), shape))


def _power(to: Transcript, equation: Any, value: Value) -> Value:
    return to.elementwise("pow", value.shape, value, to.constant(float(equation.params["y"])))


def _dot_general(to: Transcript, equation: Any, a: Value, b: Value) -> Value:
    (a_axes, b_axes), batch = equation.params["dimension_numbers"]
    shape = equation.outvars[0].aval.shape
    depth = math.prod(a.shape[axis] for axis in a_axes)
    if any(batch) or depth == 0 or 0 in shape:
        raise UnsupportedError("products of more than two axes")
    rows, columns = a.size // depth, b.size // depth
    turned = _end(a, a_axes) == "first"
    right = to.dense(b) if _end(b, b_axes) == "first" else to.transposed(b, depth)
    return Value(to.product(rows, columns, depth, to.dense(a), right, turned), shape)


def _end(value: Value, axes: Sequence[int]) -> str:
    """At which end the axes are."""
    count, every = len(axes), tuple(range(len(value.shape)))
    if tuple(axes) == every[len(every) - count :]:
        return "last"
    if tuple(axes) == every[:count]:
        return "first"
    raise UnsupportedError("a product along axes between others")


def _convolution(to: Transcript, equation: Any, a: Value, b: Value) -> Value:
    """Of images of one pixel, which is how `layers.Linear` multiplies."""
    geometry = equation.params["geometry"]
    sizes = (*geometry.image, *geometry.window, geometry.stride, geometry.padding)
    if sizes != (1, 1, 1, 1, 1, 0) or a.shape[0] != 1:
        raise UnsupportedError("a convolution")
    shape = equation.outvars[0].aval.shape
    examples, left, right = a.shape[1], to.dense(a), b.shape[-1]
    match equation.primitive.name:
        case "conv_output":
            array = to.product(examples, right, a.shape[-1], left, to.dense(b))
        case "conv_input":
            array = to.product(examples, b.shape[3], right, left, to.transposed(b, right))
        case _:
            array = to.product(a.shape[-1], right, examples, left, to.dense(b), turned=True)
    return Value(array, shape)


def _indexed(to: Transcript, equation: Any, value: Value, index: Value) -> tuple[Value, int]:
    """Where along which axis of `value` an index points: one for each row, or one for all."""
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "gather":
        axes, batch = numbers.collapsed_slice_dims, numbers.operand_batching_dims
        taken, window = numbers.start_index_map, numbers.offset_dims
    else:
        axes, batch = numbers.inserted_window_dims, numbers.operand_batching_dims
        taken, window = numbers.scatter_dims_to_operand_dims, numbers.update_window_dims
    each = batch == (0,) and window == () and len(value.shape) == 2 and index.size == value.shape[0]
    all_alike = batch == () and index.size == 1 and len(window) == len(value.shape) - 1
    if len(axes) != 1 or axes != taken or not (each or all_alike):
        raise UnsupportedError("such a choice by index")
    if "DROP" not in str(equation.params["mode"]) and "BOUNDS" not in str(equation.params["mode"]):
        raise UnsupportedError("an index moved into bounds")
    (axis,) = axes
    places = to.constant(np.arange(value.shape[axis]))
    places = to.broadcast(places, value.shape, [axis])
    index = to.broadcast(index._replace(shape=(index.size,)), value.shape, [0])
    return to.elementwise("eq", value.shape, places, index), axis


def _gather(to: Transcript, equation: Any, value: Value, index: Value) -> Value:
    """By a sum of which all terms but one are 0; what JAX fills in, where there is none."""
    if equation.invars[0].aval.dtype != to.dtype:
        raise UnsupportedError("a choice among integers by index")
    fill = equation.params["fill_value"]
    nothing = to.constant(np.nan if fill is None else fill)
    here, axis = _indexed(to, equation, value, index)
    chosen = to.elementwise("select_n", value.shape, here, to.constant(0), value)
    found = to.reduce("reduce_max", here, [axis])
    total = to.reduce("reduce_sum", chosen, [axis])
    shape = equation.outvars[0].aval.shape
    return to.elementwise("select_n", total.shape, found, nothing, total)._replace(shape=shape)


def _scatter_add(to: Transcript, equation: Any, value: Value, index: Value, more: Value) -> Value:
    here, axis = _indexed(to, equation, value, index)
    rest = [i for i in range(len(value.shape)) if i != axis]
    more = more._replace(shape=tuple(value.shape[i] for i in rest))
    more = to.broadcast(more, value.shape, rest)
    added = to.elementwise("select_n", value.shape, here, to.constant(0), more)
    return to.elementwise("add", value.shape, value, added)


CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
}
"""Operations that only hold others, under this parameter."""
UNCHANGED = ("reshape", "squeeze", "expand_dims", "stop_gradient", "copy")
"""Those that only look at an array in another way."""
OF_INTEGERS = ("neg", "abs", "sign", "add", "sub", "max", "min", "gt", "lt", "ge", "le", "eq", "ne")
"""Those that numbers of the tape's type do as integers would, below 2²⁴ and 2⁵³."""
OF_TRUTHS = ("not", "and", "or")
OF_NUMBERS = ("mul", "div", "square", "sqrt", "rsqrt", "exp", "log", "logistic", "is_finite")
SLOW, MANY = ("tanh", "pow", "expm1", "log1p"), 100
"""Of more than so many numbers XLA computes these faster, in vectors."""
ELEMENTWISE = {name: name for name in (*OF_INTEGERS, *OF_TRUTHS, *OF_NUMBERS, *SLOW)}
ELEMENTWISE["add_any"] = "add"
START = {"reduce_sum": 0, "reduce_max": -np.inf}
OTHERS: dict[str, Callable[..., Value]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "transpose": _transpose,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "argmax": _argmax,
    "convert_element_type": _convert,
    "select_n": _select,
    "iota": _iota,
    "integer_pow": _power,
    "gather": _gather,
    "scatter-add": _scatter_add,
    "dot_general": _dot_general,
    "conv_output": _convolution,
    "conv_input": _convolution,
    "conv_kernel": _convolution,
}
