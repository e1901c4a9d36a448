"""The modes in which a stack is run: eagerly, by `torch.autograd`, compiled, in two precisions."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.audit.namespaces import (
    autograd_names,
    compiled_names,
    jax_names,
    scalar_function,
    torch_names,
    transformed,
)
from parity.audit.operations import Operation
from parity.audit.points import Arrays, Point
from parity.audit.transformations import Transformation

INNER = "inner compiled"
"""The first grad in `torch.compile`, what differentiates it outside; by `torch.autograd`."""
Function = Callable[..., Any]
Wrap = Callable[[Function], Function]
"""Puts something in place of an operation's function; to plant errors."""


@dataclass(frozen=True)
class Mode:
    """How a transformation is run."""

    name: str
    precision: str
    """`float64` or `float32`."""

    def __str__(self) -> str:
        return f"{self.name}, {self.precision}"


def names_of(stack: str, mode: str) -> dict[str, Any]:
    """What expressions of a stack may use in a mode."""
    if stack != "torch":
        return jax_names()
    named = {"autograd": autograd_names, INNER: compiled_names}
    return named.get(mode, torch_names)()


class Runner:
    """A scalar function of `inputs` arrays in one mode; what is compiled is kept."""

    def __init__(
        self,
        f: Function,
        inputs: int,
        stack: str,
        mode: Mode,
        device: str = "cpu",
    ):
        self.f, self.inputs, self.stack, self.mode, self.device = f, inputs, stack, mode, device
        self.names = names_of(stack, mode.name)
        self.programs: dict[str, Function] = {}

    @classmethod
    def of(
        cls,
        operation: Operation,
        stack: str,
        mode: Mode,
        device: str = "cpu",
        wrap: Wrap | None = None,
    ) -> "Runner":
        """Of an operation; `wrap` puts something in its place."""
        f = scalar_function(operation, stack, names_of(stack, mode.name), wrap)
        return cls(f, len(operation.inputs), stack, mode, device)

    def expresses(self, transformation: Transformation) -> bool:
        """Whether the mode has the transformation."""
        return self.mode.name not in ("autograd", INNER) or transformation.reverse_only

    def run(self, transformation: Transformation, point: Point) -> Arrays | float:
        """The derivative at a point; whatever the framework raises."""
        run = _run_torch if self.stack == "torch" else _run_jax
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slow paths and deprecations: no verdicts
            found = run(self, transformation, (point.p, point.u, point.v, point.t))
        if transformation.scalar:
            return float(found)
        return tuple(np.asarray(a, np.float64) for a in found)

    def derivative(self, transformation: Transformation) -> Function:
        """The derivative as the mode runs it, made once."""
        if transformation.name not in self.programs:
            plain = transformed(transformation, self.f, self.inputs, self.names)
            self.programs[transformation.name] = self._prepared(plain)
        return self.programs[transformation.name]

    def _prepared(self, plain: Function) -> Function:
        if self.mode.name == "jit":
            import jax

            return jax.jit(plain)
        if self.mode.name.startswith("compile"):
            import torch

            torch._dynamo.reset()
            backend = self.mode.name.partition(" ")[2] or "inductor"
            return torch.compile(plain, backend=backend)
        return plain


def _run_torch(runner: Runner, transformation: Transformation, arrays: Any) -> Any:
    import torch

    dtype = getattr(torch, runner.mode.precision)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(runner.device):
            tensors = [tuple(torch.tensor(a, dtype=dtype) for a in group) for group in arrays]
            found = runner.derivative(transformation)(*tensors)
    finally:
        torch.set_default_dtype(before)
    if transformation.scalar:
        return found
    return [a.detach().double().cpu().numpy() for a in found]


def _run_jax(runner: Runner, transformation: Transformation, arrays: Any) -> Any:
    import contextlib

    import jax

    device = jax.devices("cpu" if runner.device == "cpu" else None)[0]
    wide = runner.mode.precision == "float64"
    quiet = jax.disable_jit() if runner.mode.name == "eager" else contextlib.nullcontext()
    with jax.enable_x64(wide), jax.default_device(device), quiet:
        dtype = np.dtype(runner.mode.precision)
        put = [tuple(jax.numpy.asarray(a, dtype) for a in group) for group in arrays]
        return runner.derivative(transformation)(*put)
