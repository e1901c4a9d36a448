"""Ways in which a PyTorch network often differs from its counterpart in JAX, to be tried out."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from maml_jax.exchange import Flattened
from maml_jax.exchange.layouts import flatten
from maml_jax.types import Params

EPSILONS = (1e-5, 1e-3, 1e-8, 1e-6, 1e-4, 1e-2, 1e-12)
"""Of norms: PyTorch's own, that of TensorFlow's layers and of the MAML paper's code, and others."""
_WITH_EPSILON = (F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm)


@dataclass(frozen=True)
class Variant:
    """One change, or two, of how the PyTorch side is run."""

    flattened: Mapping[str, tuple[int, int, int]]
    epsilon: float | None = None
    """Of every norm; None: as the network has it."""
    training: bool = False
    """Batch norm by the batch's own statistics."""
    layer: str | None = None
    """The dense layer whose order of inputs is another."""

    def in_force(self) -> AbstractContextManager[Any]:
        """Within it PyTorch's norms are changed so."""
        changed = self.epsilon is not None or self.training
        return _Norms(self) if changed else nullcontext()

    def __str__(self) -> str:
        said = []
        if self.layer is not None:
            order = self.flattened.get(self.layer)
            value = f"{{{self.layer!r}: {order}}}" if order else "no entry for " + repr(self.layer)
            said.append(f"flattened={value}" if order else f"{value} in flattened=")
        if self.epsilon is not None:
            said.append(f"an epsilon of {self.epsilon:g} in your norms")
        if self.training:
            said.append("your batch norm in training mode")
        return " and ".join(said)

    @property
    def remedy(self) -> str:
        """What to do about it."""
        said = []
        if self.layer is not None:
            said.append("pass that to parity.check")
        if self.epsilon is not None:
            said.append("give both networks the same epsilon")
        if self.training:
            said.append("call .train() on it")
        return "; ".join(said)


def variants(params: Params, flattened: Flattened, *, single: bool = False) -> Iterator[Variant]:
    """What to try: single changes and then, unless only these are wanted, two together."""
    orders = list(_orders(params, flattened))
    norms = [{"epsilon": e} for e in EPSILONS] + [{"training": True}]
    norms += [{"epsilon": e, "training": True} for e in EPSILONS]
    for layer, order in orders:
        yield Variant(order, layer=layer)
    for norm in norms:
        yield Variant(dict(flattened), **norm)  # type: ignore[arg-type]
    for layer, order in () if single else orders:
        for norm in norms:
            yield Variant(order, layer=layer, **norm)  # type: ignore[arg-type]


def _orders(
    params: Params, flattened: Flattened
) -> Iterator[tuple[str, dict[str, tuple[int, int, int]]]]:
    """Other orders of the inputs of one dense layer.

    Only the number of channels matters, not the height and the width by themselves.
    """
    for path, kernel in flatten(params).items():
        layer, _, kind = path.rpartition("/")
        if kind != "kernel" or np.ndim(kernel) != 2:
            continue
        inputs = np.shape(kernel)[0]
        given = flattened.get(layer)
        if given is not None:
            yield layer, {name: order for name, order in flattened.items() if name != layer}
        for channels in range(2, inputs // 2 + 1):
            if inputs % channels == 0 and (given is None or given[2] != channels):
                image = (*_nearly_square(inputs // channels), channels)
                yield layer, {**flattened, layer: image}


def _nearly_square(positions: int) -> tuple[int, int]:
    height = next(h for h in range(int(positions**0.5), 0, -1) if positions % h == 0)
    return height, positions // height


class _Norms(TorchFunctionMode):
    """PyTorch's norms with another epsilon, or in training mode, wherever they are called."""

    def __init__(self, variant: Variant):
        super().__init__()
        self.variant = variant

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func not in _WITH_EPSILON:
            return func(*args, **(kwargs or {}))
        given = inspect.signature(func).bind(*args, **(kwargs or {}))
        if self.variant.epsilon is not None:
            given.arguments["eps"] = self.variant.epsilon
        if self.variant.training and func is F.batch_norm:
            given.arguments["training"] = True
        return func(*given.args, **given.kwargs)
