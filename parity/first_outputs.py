"""The outputs that a training step gives to its loss first, from its starting weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LOSSES = (
    F.cross_entropy,
    F.nll_loss,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy_with_logits,
    F.binary_cross_entropy,
)


class Enough(BaseException):
    """Ends a training step whose first outputs are all that is wanted.

    No `Exception`, which the step might catch.
    """


class FirstOutputs(TorchFunctionMode):
    """Notes the outputs with which one of PyTorch's losses is called first."""

    outputs: np.ndarray | None = None
    """None: no loss was called, or its values could not be read (under `torch.func.vmap`)."""

    def __init__(self, *, only: bool = False):
        """Args: only: end the step there, by raising `Enough`."""
        super().__init__()
        self.only = only
        self.called = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LOSSES and not self.called:
            self.called = True
            given = args[0] if args else kwargs["input"]
            self.outputs = _values(given)
            if self.only:
                raise Enough
        return func(*args, **kwargs)


def _values(outputs: Tensor) -> np.ndarray | None:
    try:
        return np.asarray(outputs.detach().tolist(), np.float64)
    except RuntimeError:  # a transformation of PyTorch's hides them
        return None
