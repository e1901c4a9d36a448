"""Each algorithm once more, as the plainest loop that PyTorch can express.

The folder is the register: `parity/reference/meta_sgd.py` holds the reference of the algorithm
`meta-sgd` and says in `COMPARISONS` how the two are compared. Nothing else needs to know of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from parity.torch_tools import Reference, Weights

GroupToTorch: TypeAlias = Callable[[Any, Mapping[str, tuple[int, int, int]]], Weights]
"""`convert(learned, flattened) -> tensors` of one group of meta-parameters."""


@dataclass(frozen=True)
class Comparison:
    """How an algorithm of `maml_jax` is compared with its reference.

    The inner-gradient operators and the inner optimizers to try are those that the signature of
    the algorithm in `maml_jax` allows.
    """

    reference: Reference
    variant: str = ""
    """Appended to the algorithm's name where it is compared in more than one form."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fixed arguments of the algorithm in `maml_jax`."""
    regression: bool = True
    """Whether the algorithm works without classes."""
    progress: float = 1.0
    """The fraction of training at which the two are compared, from 0 to 1."""
    groups: Mapping[str, GroupToTorch] = field(default_factory=dict)
    """Conversions of groups of meta-parameters that have a layout of their own."""
