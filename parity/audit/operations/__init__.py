"""The audited operations, one file for each kind."""

from parity.audit.operations import (
    activations,
    attention,
    convolution,
    cumulative,
    dense,
    indexing,
    linear_algebra,
    losses,
    norms,
    own,
    pooling,
    programs,
)
from parity.audit.operations.operation import STACKS, Operation

__all__ = ["OPERATIONS", "STACKS", "Operation"]

OPERATIONS: list[Operation] = [
    operation
    for module in (
        dense,
        convolution,
        norms,
        pooling,
        activations,
        losses,
        attention,
        indexing,
        cumulative,
        linear_algebra,
        own,
        programs,
    )
    for operation in module.OPERATIONS
]
